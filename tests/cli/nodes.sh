# Two network namespaces joined by a cable, as two machines that share a disk: nodes.sh NODE_A NODE_B [CUT]
# runs a command in each, with $ADDRESS of its own and $MASTER_ADDR of the first; if the file CUT appears, the cable is
# pulled. It runs within: unshare --map-root-user --net --mount sh nodes.sh ...
set -e
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
ip netns add a
ip netns add b
ip link add va netns a type veth peer name vb netns b
ip -n a addr add 10.1.0.1/24 dev va
ip -n b addr add 10.1.0.2/24 dev vb
for node in a b; do ip -n $node link set lo up; ip -n $node link set v$node up; done
export MASTER_ADDR=10.1.0.1
set +e
GLOO_SOCKET_IFNAME=va NODE=0 ip netns exec a sh -c "$1" & first=$!
GLOO_SOCKET_IFNAME=vb NODE=1 ip netns exec b sh -c "$2" & second=$!
if [ -n "$3" ]; then
    while [ ! -e "$3" ]; do sleep 0.2; done
    ip -n a link set va down
fi
wait $first; one=$?
wait $second; two=$?
echo "statuses $one $two"
