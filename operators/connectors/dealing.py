"""Which process a partition belongs to, where each reads and writes its own: one rule for source, sink and start."""


def process_of(partition: int, lanes: int, processes: int) -> int:
    """The process of a partition, of any topic: that of its lane."""
    return partition % lanes % processes


def stays(count: int, dealt: int, lanes: int, processes: int) -> bool:
    """Whether every key stays with its process when a topic has grown to `count` partitions.

    `dealt` is the count by which keys were dealt so far, and still are on what the processes write.
    """
    if processes == 1:
        return True
    return count % dealt == 0 and all(
        process_of(partition, lanes, processes) == process_of(partition % dealt, lanes, processes)
        for partition in range(count)
    )
