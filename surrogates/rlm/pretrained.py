"""Checkpoint folders: where they are, what is in them, and what is refused."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from search_spaces.errors import CheckpointError
from surrogates.rlm.config import DecodingConfig, ModelConfig, ReadingConfig, TrainingConfig
from surrogates.rlm.encoders import Reader, reader_for
from surrogates.rlm.familiarity import DISTANCE_FILE, TrainingDistribution
from surrogates.rlm.model import RLMNetwork
from surrogates.rlm.scales import Scale

FORMAT_VERSION = 1
#: Checkpoints that ship with the package, one folder each.
SHIPPED = Path(__file__).parent.parent / "checkpoints"
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


@dataclass(frozen=True)
class Pretrained:
    """All that a checkpoint folder holds; the first nine are those of ``RLM``.

    Attributes:
        model: Shape of the network.
        reading: What of a graph is read; everything in checkpoints of earlier versions.
        training: How it was trained.
        decoding: How numbers are read out.
        value_scale: Kind of the scales, of all or by metric.
        digits: Digits per number.
        metrics: Names.
        scales: One per metric.
        temperatures: One per metric.
        spreads: One per metric; 1 in checkpoints of earlier versions.
        reader: Makes inputs of texts.
        network: With its weights.
        known: Where the training graphs lie; None in checkpoints of earlier versions.
    """

    model: ModelConfig
    reading: ReadingConfig
    training: TrainingConfig
    decoding: DecodingConfig
    value_scale: str | dict[str, str]
    digits: int
    metrics: tuple[str, ...]
    scales: tuple[Scale, ...]
    temperatures: tuple[float, ...]
    spreads: tuple[float, ...]
    reader: Reader
    network: RLMNetwork
    known: TrainingDistribution | None

    def save(self, folder: Path, *, store_encoder: bool) -> None:
        """Write the folder; see ``RLM.save_pretrained``."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "surrogate": "rlm",
            "format_version": FORMAT_VERSION,
            "model": asdict(self.model),
            "reading": asdict(self.reading),
            "training": asdict(self.training),
            "decoding": asdict(self.decoding),
            "value_scale": self.value_scale,
            "digits": self.digits,
            "metrics": list(self.metrics),
            "scales": [scale.to_json() for scale in self.scales],
            "temperatures": list(self.temperatures),
            "spreads": list(self.spreads),
            "distance": self.known is not None,
        }
        elsewhere = self.reader.save(folder, self.network.encoder, store_encoder=store_encoder)
        weights = self.network.state_dict()
        kept = {name: weights[name].contiguous() for name in weights if not name.startswith(elsewhere)}
        save_file(kept, folder / WEIGHTS_FILE)
        (folder / DISTANCE_FILE).unlink(missing_ok=True)  # of a model that was saved here before
        if self.known is not None:
            self.known.save(folder)
        lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in config.items())
        (folder / CONFIG_FILE).write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")  # scales hold thousands of numbers

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder that ``save`` wrote.

        Raises:
            CheckpointError: A file is missing or damaged, or it is of another kind or format version.
        """
        config = read_config(folder)
        try:
            model = ModelConfig(**{**config["model"], "heads": tuple(config["model"]["heads"])})
            decoding = config["decoding"]
            metrics = tuple(config["metrics"])
            scales = tuple(Scale.from_json(scale) for scale in config["scales"])
            reader = reader_for(model).load(folder)
            steps = max(len(scale.format.steps) for scale in scales)
            network = RLMNetwork(model, reader.encoder(model), len(metrics), steps)
            _load_weights(network, reader, folder)
            return cls(
                model,
                ReadingConfig(**config.get("reading", {})),
                TrainingConfig(**config["training"]),
                replace(DecodingConfig(**decoding), beams=tuple(decoding["beams"]), levels=tuple(decoding["levels"])),
                config["value_scale"],
                config["digits"],
                metrics,
                scales,
                tuple(config.get("temperatures", (1.0,) * len(metrics))),
                tuple(config.get("spreads", (1.0,) * len(metrics))),
                reader,
                network.eval(),
                TrainingDistribution.load(folder) if config.get("distance", False) else None,
            )
        except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{folder} is not a complete RLM checkpoint: {error}") from error


def checkpoint_folder(path_or_name: str | Path) -> Path:
    """The folder of a checkpoint given by path or by shipped name.

    Raises:
        CheckpointError: Neither exists.
    """
    for folder in (Path(path_or_name), SHIPPED / str(path_or_name)):
        if (folder / CONFIG_FILE).is_file():
            return folder
    shipped = sorted(p.parent.name for p in SHIPPED.glob(f"*/{CONFIG_FILE}"))
    raise CheckpointError(
        f"{str(path_or_name)!r} is neither a checkpoint folder (with {CONFIG_FILE}) nor a shipped checkpoint; "
        f"shipped: {', '.join(shipped) or '(none)'}"
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The config of an RLM's checkpoint folder.

    Raises:
        CheckpointError: It is no JSON object, or of another kind of surrogate or format version.
    """
    try:
        config: Any = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{folder / CONFIG_FILE} is not valid JSON: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder / CONFIG_FILE} holds a {type(config).__name__}, not a JSON object")
    if config.get("surrogate") != "rlm":
        raise CheckpointError(f"{folder} holds a {config.get('surrogate')!r} surrogate, not an RLM")
    if config.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has checkpoint format {config.get('format_version')}, this version of nasrlm reads "
            f"{FORMAT_VERSION}; train it again or use the nasrlm it was made with"
        )
    return config


def _load_weights(network: RLMNetwork, reader: Reader, folder: Path) -> None:
    """Load the weights of a folder over those of ``network``."""
    found = network.load_state_dict(load_file(folder / WEIGHTS_FILE), strict=False)
    missing = [name for name in found.missing_keys if not name.startswith(reader.referenced)]
    if missing or found.unexpected_keys:
        raise CheckpointError(
            f"{folder / WEIGHTS_FILE} does not fit its config: {len(missing)} tensors missing, "
            f"{len(found.unexpected_keys)} unknown ({', '.join([*missing, *found.unexpected_keys][:3])})"
        )
