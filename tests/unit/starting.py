"""A folder from which a start is tried where neither a broker nor a registry answers."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = """
[kafka]
bootstrap = "127.0.0.1:1"
wait = "1s"
[registry]
url = "http://127.0.0.1:1"
"""
SETTINGS = f"""
[pseudonym]
key_file = ".key"
{OUTSIDE}
[topics]
prefix = "eu."
[state]
backend = "rocksdb"
[metrics]
listen = "127.0.0.1:0"
"""


def settled(folder, settings=SETTINGS):
    """The folder, with settings and a key."""
    (folder / ".key").write_text("a key for a start")
    (folder / ".key").chmod(0o400)
    (folder / "footfall.toml").write_text(settings)
    return folder
