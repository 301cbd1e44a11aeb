"""The folders of pictures that an experiment reads, and what the model does not hear of their
texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fewstep.data import folder_report
from fewstep.data.buckets import buckets
from fewstep.data.folder import Folder, Picture, read_folder
from fewstep.errors import UserError
from fewstep.experiment.config import Experiment
from fewstep.families.text import length, unknown_words
from fewstep.families.zimage import ZImage


@dataclass(frozen=True, kw_only=True)
class Folders:
    """The folders of pictures that an experiment reads."""

    trained: Folder | None = None
    regularisation: Folder | None = None

    def given(self) -> dict[str, Folder]:
        """By role."""
        found = {"folder": self.trained, "regularisation": self.regularisation}
        return {role: folder for role, folder in found.items() if folder is not None}

    def lines(self) -> list[str]:
        """What was found, for `--dry-run`."""
        return [line for folder in self.given().values() for line in folder_report.lines(folder)]


def find_folders(experiment: Experiment, family: ZImage) -> Folders:
    """Look at every picture and caption of the experiment's folders; a model without weights will
    do. UserError where there is nothing to train on or what is asked for is impossible."""
    data, cfg = experiment.data, experiment.data.folder
    if not data.reads("folder"):
        return Folders()
    try:
        sizes = buckets(cfg.size, family.unit)
    except ValueError as error:
        raise UserError(f"data.folder.{error}") from None
    if data.source == "folder" and cfg.context == "picture" and family.pictures is None:
        raise UserError(
            f"data.folder.context is picture, but the model {experiment.model} has no picture "
            "encoder; set it to prompt or none"
        )
    wanted = (cfg if data.source == "folder" else None, cfg.of_regularisation())
    trained, regularisation = (
        None if each is None else with_unheard(read_folder(each, sizes), family) for each in wanted
    )
    return Folders(trained=trained, regularisation=regularisation)


def with_unheard(folder: Folder, family: ZImage) -> Folder:
    """The folder with warnings of texts that are cut off or hold words of no meaning."""
    told = [
        f"{picture.file}: {text}"
        for picture in folder.pictures
        for text in unheard(picture, family)
    ]
    return replace(folder, warnings=(*folder.warnings, *told))


def unheard(picture: Picture, family: ZImage) -> Iterator[str]:
    """A clause for each fault, over all that is read of or beside a picture."""
    tokenizer = family.pipeline.tokenizer
    texts = dict.fromkeys((*picture.captions, *picture.enhanced, *picture.prompts))
    if words := dict.fromkeys(word for text in texts for word in unknown_words(tokenizer, text)):
        yield f"the model has no word {', '.join(map(repr, words))}"
    longest = max(texts, key=lambda text: length(tokenizer, text))
    if (most := length(tokenizer, longest)) > family.longest:
        kind = "further prompt" if longest in picture.prompts else "caption"
        yield f"of the {most} tokens of a {kind} the model reads {family.longest}"
