"""What the student learns from: teacher samples, prompts or a folder of pictures, what is shown
beside them, and everything that decides them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, assert_never

from fewstep.data import folder_report
from fewstep.data.alike import batches_of
from fewstep.data.batches import Batch
from fewstep.data.cache import Key, SampleCache, check_writable
from fewstep.data.finite import Finite
from fewstep.data.folder import Folder
from fewstep.data.picture_cache import PictureCache
from fewstep.data.picture_encoding import PictureEncoding
from fewstep.data.picture_samples import PictureBatches, PictureSamples, read_pictures
from fewstep.data.pictures import LIBRARY
from fewstep.data.precompute import precompute
from fewstep.data.prior import PicturePrior, Prior, SamplePrior, WithPrior
from fewstep.data.prompts import PromptSamples
from fewstep.data.scale import ENOUGH, check_scale
from fewstep.data.task import Task, task_of
from fewstep.data.told import Told, quiet
from fewstep.errors import UserError
from fewstep.experiment.config import DataConfig, Experiment
from fewstep.experiment.folders import Folders
from fewstep.experiment.prompts import training_prompts
from fewstep.families.pictures import CLOSE, OPEN, PAD
from fewstep.families.text import chat
from fewstep.families.zimage import ZImage
from fewstep.families.zimage_fused import FusedZImage
from fewstep.hashing import text_hash
from fewstep.runs import user_path
from fewstep.worlds.base import World


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a run is trained on."""

    batches: Callable[[int], list[Batch]]
    """A UserError names a sample that is not finite."""
    key: Key
    """What decided it: a run that goes on must find the same."""
    report: dict[str, Any]
    """What was found in folders of pictures, by their role; empty without one."""
    notes: tuple[str, ...] = ()
    """What a user should hear of teacher samples: what was damaged, what is left out."""


def data_of(
    experiment: Experiment, family: ZImage, teacher: ZImage, world: World | None, folders: Folders,
    told: Told = quiet, *, processes: int = 1,
) -> Data:  # fmt: skip
    """The batches of the experiment: `teacher` draws what is trained on, and `family`, the model
    itself, what it should leave as it is. A step is split so that each of the processes gets a
    micro-batch, where it has enough samples."""
    cfg, notes = experiment.data, list[str]()
    part = part_of(cfg, processes)
    batches, key = trained_on(experiment, family, teacher, world, folders, told, part, notes)
    report = {role: folder_report.facts(folder) for role, folder in folders.given().items()}
    if (found := make_prior(experiment, family, world, folders, told, notes)) is not None:
        prior, own = found
        batches = WithPrior(batches, prior)
        # runs of before had so many beside each micro-batch; those of one a step go on as they were
        whole = cfg.micro_batch in (None, cfg.batch_size)
        size = "prior_size" if whole else "prior_size of a step"
        key = {**key, size: cfg.prior_size, **{f"prior {k}": v for k, v in own.items()}}
    return Data(batches=Finite(batches), key=key, report=report, notes=tuple(notes))


def part_of(cfg: DataConfig, processes: int) -> int:
    """Samples of a micro-batch: as configured, or fewer, so that all processes have one. Never one
    where two are possible, for some losses compare samples."""
    part = cfg.micro_batch or cfg.batch_size
    return min(part, max(2, -(-cfg.batch_size // processes)))


def trained_on(
    experiment: Experiment, family: ZImage, teacher: ZImage, world: World | None, folders: Folders,
    told: Told, part: int, notes: list[str],
) -> tuple[Callable[[int], list[Batch]], Key]:  # fmt: skip
    """The batches without a prior, in micro-batches of `part`, and what decided them; `notes` gets
    what a user should hear."""
    cfg, seed, size = experiment.data, experiment.seed, experiment.data.batch_size
    ordered = partial(
        batches_of, alike=cfg.alike, batch_size=size, seed=seed, micro_batch=part, notes=notes
    )
    match cfg.source:
        case "samples":
            cache = teacher_samples(experiment, teacher, world, told, notes)
            return ordered(cache), cache.key
        case "prompts":
            samples, key = prompt_samples(experiment, teacher, world, told)
            return ordered(samples), key
        case "folder":
            assert folders.trained is not None  # `find_folders` has read it
            pictures, key = pictures_of(experiment, family, folders.trained, told)
            return PictureBatches(pictures, batch_size=size, seed=seed, micro_batch=part), key
        case _:
            assert_never(cfg.source)


def make_prior(
    experiment: Experiment, family: ZImage, world: World | None, folders: Folders, told: Told,
    notes: list[str],
) -> tuple[Prior, Key] | None:  # fmt: skip
    """What training should leave as it is, and what decided it; None where nothing is asked for."""
    cfg, seed = experiment.data, experiment.seed
    told = of_prior(told)
    match cfg.prior:
        case "none":
            return None
        case "samples":
            cache = teacher_samples(experiment, family, world, told, notes)
            return SamplePrior(samples=cache, size=cfg.prior_size, seed=seed), cache.key
        case "prompts":
            samples, key = prompt_samples(experiment, family, world, told)
            return SamplePrior(samples=samples, size=cfg.prior_size, seed=seed), key
        case "folder":
            assert folders.regularisation is not None  # `find_folders` has read it
            pictures, key = pictures_of(experiment, family, folders.regularisation, told)
            return PicturePrior(samples=pictures, size=cfg.prior_size, seed=seed), key
        case _:
            assert_never(cfg.prior)


def of_prior(told: Told) -> Told:
    """The same, in words that tell the prior's from what is trained on."""
    return lambda what, done, total: told(f"{what} of the prior", done, total)


def prompt_samples(
    experiment: Experiment, family: ZImage, world: World | None, told: Told
) -> tuple[PromptSamples, Key]:
    """Prompts without pictures, at the size that is trained on."""
    prompts, (height, width) = training_prompts(experiment, world), experiment.data.size()
    key = {
        "model": family.fingerprint(), "prompts": len(prompts),
        "prompts_hash": text_hash("\x1f".join(prompts)), "size": [height, width],
    }  # fmt: skip
    shape = family.latent_shape(height, width)
    return PromptSamples(prompts, family.encode_text, shape, told), key


def pictures_of(
    experiment: Experiment, family: ZImage, folder: Folder, told: Told
) -> tuple[PictureSamples, Key]:
    """The pictures of a folder as the model reads them, and what decided them."""
    tokenizer = family.pipeline.tokenizer

    def spelled(prompt: str) -> str:
        return text_hash(str(tokenizer(chat(tokenizer, [prompt]), verbose=False).input_ids))

    reader = family.pictures
    facts = {"picture_pixels": None if reader is None else list(reader.pixels)}
    root, _ = places(experiment)
    encoding = PictureEncoding(
        folder.cfg, family, PictureCache(root / "pictures"), spelled=spelled, facts=facts
    )
    pictures = read_pictures(folder, encoding, told)
    latents = [encoding.latent(picture) for picture in folder.pictures[:ENOUGH]]
    check_scale([pictures.read(x0) for x0 in latents], f"the latents of {folder.cfg.path}")
    rows = [(p.content, p.fit.size, p.repeats) for p in folder.pictures]
    # without further prompts as it was before there were any: runs of then go on
    captions = [(p.captions, p.enhanced, *p.prompts) for p in folder.pictures]
    texts = [t for p in folder.pictures for t in (*p.captions, *p.enhanced, *p.prompts)]
    key = {
        "model": encoding.common["model"], "library": LIBRARY, "pictures": len(rows),
        "pictures_hash": text_hash(str(rows)), "captions_hash": text_hash(str(captions)),
        "spelling_hash": text_hash(str([spelled(text) for text in texts])),
        "context": folder.cfg.context, "size": folder.cfg.size, **facts,
    }  # fmt: skip
    return pictures, key


def teacher_samples(
    experiment: Experiment, family: ZImage, world: World | None, told: Told, notes: list[str]
) -> SampleCache:
    """Those of the experiment's prompts, after drawing what is missing."""
    cache = precompute(sample_task(experiment, family, world), told)
    notes += cache.notes
    x0, _ = cache.take(range(min(ENOUGH, len(cache))))
    check_scale([*x0], f"the latents in {cache.directory}")
    return cache


def sample_task(experiment: Experiment, family: ZImage, world: World | None) -> Task:
    """The samples that `family` should draw for the experiment."""
    cfg, prompts = experiment.data.samples, training_prompts(experiment, world)
    root, directory = places(experiment)
    shown = None if world is None else world.in_context
    return task_of(
        cfg, family, prompts, root, shown=shown, directory=directory,
        facts=facts(experiment, family, world, prompts),
    )  # fmt: skip


def places(experiment: Experiment) -> tuple[Path, Path | None]:
    """The root of all caches, and the very directory where one is given."""
    data = experiment.data
    return user_path(data.cache), None if data.directory is None else user_path(data.directory)


def check_samples(experiment: Experiment, family: ZImage, world: World | None) -> None:
    """UserError for what would make the samples impossible, before the first is drawn."""
    data, cfg = experiment.data, experiment.data.samples
    root, directory = places(experiment)
    if data.reads("folder"):
        check_writable(root)
    if data.reads("prompts"):
        family.latent_shape(*data.size())
    if not data.reads("samples"):
        return
    family.latent_shape(cfg.height, cfg.width)
    if cfg.picture_share and world is None:
        raise UserError("data.samples.picture_share > 0 needs a world that can draw pictures")
    if cfg.picture_share and family.pictures is None:
        raise UserError(
            f"data.samples.picture_share is {cfg.picture_share:g}, but the model "
            f"{experiment.model} has no picture encoder; set it to 0"
        )
    check_writable(directory or root)


def facts(
    experiment: Experiment, family: ZImage, world: World | None, prompts: Sequence[str]
) -> dict[str, Any]:
    """What decides samples besides weights and numbers: how products are computed, how prompts
    and pictures are read."""
    engine, tokenizer = str(experiment.engine), family.pipeline.tokenizer
    if isinstance(family.backbone, FusedZImage):
        engine += f", {str(family.backbone.low).removeprefix('torch.')} products"
    [turn] = chat(tokenizer, ["PROMPT"])
    read = [turn, *prompts]
    found: dict[str, Any] = {"engine": engine, "dtype": experiment.dtype, "chat": turn}
    if experiment.engine != "plain" or experiment.dtype != "float32":
        found["batch"] = experiment.data.samples.batch  # coarse products round by the batch's size
    if experiment.data.samples.picture_share and world is not None and family.pictures is not None:
        found |= {"world": world.name, "picture_pixels": list(family.pictures.pixels)}
        few = prompts[:16]
        read += [OPEN + PAD + CLOSE, *world.in_context(few, range(len(few)))[0]]
    # the tokens, not the vocabulary: words that no prompt has decide nothing
    return found | {"tokens": text_hash(str(tokenizer(read).input_ids))}
