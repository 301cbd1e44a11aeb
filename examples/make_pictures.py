"""Make the pictures of this folder again: `python -m examples.make_pictures`.

concept/   an outline that Shapes has no word for, called [V]
style/     named shapes drawn as frames, behind the word [V]

Both are concepts of the studies (benchmarks/dopsd_concepts.py), 64 x 64 pixels, each picture with a
caption (.txt) and a fuller prompt in words that exist (.enhanced.txt).
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.dopsd_concepts import taught, write_folder

from fewstep.worlds.shapes.world import Shapes

FOLDERS = {"concept": "outline5", "style": "style1"}


def main(root: Path = Path(__file__).parent) -> None:
    world = Shapes()
    for folder, name in FOLDERS.items():
        [one] = taught(world, [name])
        print(f"wrote {write_folder(world, one, root / folder)}")


if __name__ == "__main__":
    main()
