"""What went wrong, in one sentence."""


def innermost(error: BaseException) -> str:
    """The sentence at the bottom of a chain of errors: jsonargparse wraps ours in a report on every type it tried."""
    message = str(error)
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
        if isinstance(error, ValueError):
            message = str(error)
    return message
