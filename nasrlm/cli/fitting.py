"""How ``train`` and ``finetune`` fit: settings by name, and unfinished fits that can be resumed."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasrlm.cli.output import new_folder
from search_spaces.errors import RunExistsError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from nasrlm.cli.labelled import Labelled
    from surrogates.base import Surrogate
    from surrogates.rlm.few_shot import FineTunedRLM

#: Folder inside the output that holds the state of an unfinished fit.
UNFINISHED = "unfinished"


def prepare(out: Path, *, resume: bool) -> None:
    """Check that ``out`` may be written: free, or an unfinished fit to resume.

    Raises:
        RunExistsError: It holds something else.
    """
    others = [path.name for path in out.iterdir() if path.name != UNFINISHED] if out.is_dir() else []
    if resume and others and not (out / UNFINISHED).is_dir():  # that goes last: with it the rest may be half written
        raise RunExistsError(f"{out} holds {', '.join(sorted(others))}, no unfinished fit; choose another --out")
    if not resume:
        new_folder(out)


def configure(surrogate: Surrogate, options: Sequence[str], *, seed: int) -> None:
    """Change settings of a surrogate, before it is fitted.

    Args:
        surrogate: Its attributes that are config dataclasses hold the settings.
        options: ``name=value`` texts; the type is that of the setting's default.
        seed: Value of every setting called ``seed``.

    Raises:
        UnknownNameError: No config has a setting of that name.
        UsageError: The text is malformed or its value of the wrong type.
    """
    attributes = [name for name, value in vars(surrogate).items() if is_dataclass(value)]
    settings: dict[str, list[str]] = {}
    for attribute in attributes:
        for field in fields(getattr(surrogate, attribute)):
            settings.setdefault(field.name, []).append(attribute)
    chosen = dict(option.partition("=")[::2] for option in options)
    if "seed" in settings:
        chosen.setdefault("seed", str(seed))
    changed: dict[str, dict[str, Any]] = {}
    for name, text in chosen.items():
        if name not in settings:
            raise UnknownNameError(f"setting of {type(surrogate).__name__}", name, settings)
        for attribute in settings[name]:
            default = getattr(getattr(surrogate, attribute), name)
            changed.setdefault(attribute, {})[name] = _like(default, name, text)
    for attribute, values in changed.items():  # all at once: one may ask for another
        setattr(surrogate, attribute, replace(getattr(surrogate, attribute), **values))


def few_shot(
    trained: Surrogate,
    checkpoint: str,
    metrics: Sequence[str],
    size: int,
    freeze: Sequence[str],
    options: Sequence[str] = (),
    *,
    seed: int = 0,
    pool: bool = True,
) -> FineTunedRLM | None:
    """What fits ``size`` labels to a language model of lines pretrained on free targets, by the benchmark's recipe.

    Args:
        trained: The checkpoint.
        checkpoint: Its folder or name.
        metrics: What to learn; dead operations are not read where they touch none of it.
        size: Number of labels.
        freeze: Modules whose weights stay as they are; empty leaves the choice to the recipe.
        options: Settings that differ from the recipe, as for ``configure``.
        seed: Value of every setting called ``seed``.
        pool: Whether the recipe may be one with fresh networks; another one is taken where ``options`` allow none.

    Returns:
        None for a checkpoint of another kind.

    Raises:
        UnknownNameError: As ``configure``.
        UsageError: As ``configure``.
    """
    from nasrlm.bench.methods import configure as set_up
    from nasrlm.few_shot import few_shot_settings, is_start
    from surrogates.rlm.few_shot import FineTunedRLM
    from surrogates.rlm.starting import StartConfig

    if not is_start(trained):
        return None
    surrogate = FineTunedRLM(StartConfig(checkpoint))
    chosen = few_shot_settings(trained.metrics, metrics, size, pool=pool)
    if freeze:
        chosen["start.freeze"] = tuple(freeze)
    set_up(surrogate, chosen, seed=seed)
    configure(surrogate, options, seed=seed)
    if pool and not surrogate.teaching.pool:
        return few_shot(trained, checkpoint, metrics, size, freeze, options, seed=seed, pool=False)
    return surrogate


def calibrate_by_labels(surrogate: FineTunedRLM, size: int) -> None:
    """Let ``size`` labels say how wide intervals must be, if they are enough and are not set aside for trust anyway."""
    from nasrlm.bench.pretrained import FOLDS
    from surrogates.rlm.calibration import LEAST_LABELS

    teaching = surrogate.teaching
    if size >= LEAST_LABELS and not (teaching.pool and teaching.trust_folds):
        surrogate.calibration = replace(surrogate.calibration, folds=FOLDS)


def fit(
    surrogate: Surrogate, learn: Labelled, aside: Labelled | None, out: Path, *, resume: bool, progress: bool
) -> Surrogate:
    """Fit from nothing and save into ``out``; a surrogate that can keep its state does, for ``--resume``.

    Raises:
        UsageError: ``resume`` is set for a surrogate that keeps no state, or networks were set ``aside`` for validation
            for one that has no use for them.
    """
    return _run(surrogate.fit, learn, aside, out, resume=resume, progress=progress)


def tune(
    surrogate: Surrogate,
    learn: Labelled,
    aside: Labelled | None,
    out: Path,
    *,
    freeze: Sequence[str],
    resume: bool,
    progress: bool,
) -> Surrogate:
    """Go on from what ``surrogate`` has learned, by its method ``finetune``, and save into ``out``.

    Raises:
        UsageError: Its class has no such method, or as ``fit``, or it has no modules to ``freeze``.
    """
    method = getattr(surrogate, "finetune", None)
    if method is None:
        raise UsageError(f"{type(surrogate).__name__} learns from nothing every time; use `nasrlm train` instead")
    return _run(method, learn, aside, out, freeze=freeze, resume=resume, progress=progress)


def _run(
    method: Callable[..., Surrogate],
    learn: Labelled,
    aside: Labelled | None,
    out: Path,
    *,
    freeze: Sequence[str] = (),
    resume: bool,
    progress: bool,
) -> Surrogate:
    accepted = inspect.signature(method).parameters
    extras: dict[str, Any] = {}
    if aside is not None:
        extras["validation"] = (aside.networks, aside.labels)
    if freeze:
        extras["freeze"] = tuple(freeze)
    if unknown := [name for name in extras if name not in accepted]:
        raise UsageError(f"this surrogate has no use for --{' and --'.join(unknown)}; leave it out")
    if "checkpoint" in accepted:
        extras["checkpoint"] = out / UNFINISHED
    elif resume:
        raise UsageError("this surrogate keeps no state to resume from; leave out --resume")
    if "progress" in accepted:
        extras["progress"] = progress
    fitted = method(learn.networks, learn.labels, **extras)
    fitted.save_pretrained(out)
    shutil.rmtree(out / UNFINISHED, ignore_errors=True)
    return fitted


def _guessed(text: str) -> float | str:
    """A value of the type that ``text`` has by its looks, where no default tells."""
    try:
        return float(text)
    except ValueError:
        return text


def _like(default: object, name: str, text: str) -> object:
    """``text`` as a value of the type of ``default``."""
    try:
        match default:
            case bool():
                return {"true": True, "false": False}[text.lower()]
            case int():
                return int(text)
            case float():
                return float(text)
            case str() if text:
                return text
            case tuple():
                return tuple(_like(default[0] if default else _guessed(part), name, part) for part in text.split(","))
    except (ValueError, KeyError):
        pass
    raise UsageError(f"--option {name}={text}: expected name=value with a value like {default!r}")
