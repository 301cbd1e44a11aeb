"""Pictures of what was judged: grids of models side by side, sheets of seeds, likeness maps."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fewstep.evaluate.collapse import prompt_distances, similarity
from fewstep.evaluate.gallery import Pictures
from fewstep.evaluate.grids import Column, write_grid, write_sheet
from fewstep.evaluate.judge import Judged
from fewstep.evaluate.results import Sheet
from fewstep.runs import replacing
from fewstep.shapes import Pixels

GRID_ROWS, GRID_SEEDS = 8, 2
"""What a grid shows of it all."""
LIKENESS_PROMPTS = 32


def grid(judged: Judged, path: Path) -> tuple[Path, str]:
    """The first prompts and seeds of every row side by side; the file and its caption."""
    tiles = min(GRID_SEEDS, *(len(p.seeds) for p in judged.pictures.values()))
    first = next(iter(judged.pictures.values()))
    prompts = first.prompts[:GRID_ROWS]
    columns = [
        Column(name, first_seeds(p, len(prompts), tiles)) for name, p in judged.pictures.items()
    ]
    write_grid(path, columns, prompts, seeds=tiles)
    caption = (
        f"{len(prompts)} of the {len(first.prompts)} prompts, {tiles} pictures each. The models "
        "start a row from the same noise; true pictures show what was asked in layouts of their "
        "own."
    )
    return path, caption


def first_seeds(pictures: Pictures, prompts: int, seeds: int) -> Pixels:
    images = pictures.read(0, prompts).unflatten(0, (-1, len(pictures.seeds)))
    return images[:, :seeds].flatten(0, 1)


def sheets(judged: Judged, folder: Path, count: int) -> list[Sheet]:
    """Every seed of the first prompts, a file for each row and prompt."""
    found: list[Sheet] = []
    for i, (name, pictures) in enumerate(judged.pictures.items()):
        for row, prompt in enumerate(pictures.prompts[:count]):
            path = folder / f"{row:02d}_{i:02d}.png"
            write_sheet(path, pictures.read(row, row + 1))
            found.append(
                Sheet(
                    file=f"{folder.name}/{path.name}", row=name, prompt=prompt,
                    caption=f"{len(pictures.seeds)} seeds",
                )
            )  # fmt: skip
    return found


def likeness(judged: Judged, path: Path) -> dict[str, str]:
    """How alike the pictures of any two prompts are, a map for each row; {} where there are no two
    seeds. A healthy model has a bright diagonal, one that ignores its prompts an even map."""
    measures = {name: m for name, m in judged.measures.items() if m.n_seeds > 1 and m.features}
    if not measures:
        return {}
    extractor = next(iter(next(iter(measures.values())).features))
    maps = {
        name: similarity(prompt_distances(m.features[extractor].reshape(*m.size, -1)))
        for name, m in measures.items()
    }
    figure = Figure(figsize=(2.6 * len(maps) + 0.6, 2.9), layout="constrained")
    FigureCanvasAgg(figure)
    grid_of_axes = figure.subplots(1, len(maps), squeeze=False)[0]
    for axes, (name, values) in zip(grid_of_axes, maps.items(), strict=True):
        part = values[:LIKENESS_PROMPTS, :LIKENESS_PROMPTS]
        drawn = axes.imshow(part, cmap="viridis", vmin=-0.2, vmax=1)
        axes.set_title(name, fontsize=9)
        axes.set(xticks=[], yticks=[])
    figure.colorbar(drawn, ax=list(grid_of_axes), shrink=0.8, label="likeness")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    return {
        path.name: "How alike the pictures of any two prompts are: the cosine of their "
        f"{extractor} features at different seeds; the diagonal is one prompt. A healthy model has "
        "a bright diagonal; where every prompt gives the same picture the map is even."
    }
