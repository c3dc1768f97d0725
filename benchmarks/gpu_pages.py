"""Put the tables of a run of gpu_all.sh into the pages of this folder.

    python benchmarks/gpu_pages.py runs/gpu

Each page has a place for its table between `<!-- table: NAME -->` and `<!-- end -->`. What a run did not reach keeps its place.
"""

import argparse
import re
from pathlib import Path

HERE = Path(__file__).parent
PAGES = {
    "training": "training_gpu.md",
    "decoding": "decode_gpu.md",
    "attention": "attention_routes.md",
    "mimi": "mimi_gpu.md",
}


def put(name: str, table: str, page: Path) -> None:
    """The table into its place on a page.

    Raises:
        SystemExit: the page has no such place, or more than one.
    """
    text = page.read_text(encoding="utf-8")
    place = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    new, count = place.subn(lambda found: found[1] + table.strip() + "\n" + found[2], text)
    if count != 1:
        raise SystemExit(f"{page} has {count} places for the table {name!r}; needed: one.")
    page.write_text(new, encoding="utf-8")


def main() -> None:
    """Fill the pages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of gpu_all.sh")
    parser.add_argument("--pages", type=Path, default=HERE, help="folder of the pages")
    options = parser.parse_args()
    for name, page in PAGES.items():
        table = options.run / f"{name}.md"
        if table.exists():
            put(name, table.read_text(encoding="utf-8"), options.pages / page)
            print(f"{name}: {page}")
        else:
            print(f"{name}: not reached")


if __name__ == "__main__":
    main()
