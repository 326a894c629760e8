"""Virtual shards: the engine keys of steps that run on several processes, and who is at home on which.

The engine sends a key to worker `hash % workers`. Plain names fall unevenly, so each name carries a number that was
searched for once: shard i falls to worker i % workers, on every count of workers that divides 840. Names key stored
state and never change.
"""

from schemas.keys import partition_of

_SALTS = (
    967,
    564,
    1262,
    659,
    855,
    2493,
    2495,
    797,
    2747,
    573,
    697,
    1872,
    1042,
    347,
    1464,
    840,
    989,
    1485,
    1627,
    1256,
    499,
    409,
    1473,
    27,
    2133,
    142,
    321,
    1095,
    1652,
    860,
    1633,
    1762,
    330,
    376,
    317,
    145,
    218,
    316,
    713,
    995,
    1514,
    652,
    113,
    84,
    383,
    722,
    3,
    363,
    1830,
    54,
    83,
    2207,
    833,
    1247,
    5449,
    608,
    428,
    198,
    3743,
    1090,
    133,
    70,
    1231,
    2254,
)
SHARDS = tuple(f"shard-{number:02d}.{salt}" for number, salt in enumerate(_SALTS))
"""Names of shards by number."""
ALONE = "0"
"""The one shard of a flow that has no more, and of the steps that one worker must do for all."""


def shard_of(identifier: str, shards: int) -> int:
    """Number of the shard on which a person with this anchor is at home."""
    return partition_of(identifier, shards)
