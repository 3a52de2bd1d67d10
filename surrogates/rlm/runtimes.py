"""What encodes graphs when numbers are read out: torch as it is, torch compiled, or ONNX Runtime.

The encoder takes most of the time of a prediction and its shape never changes, so it can be handed to a compiler; the
decoder stays in torch.
"""

from __future__ import annotations

import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import torch

from surrogates.rlm.config import DecodingConfig
from surrogates.rlm.encoders import States
from surrogates.rlm.export import INPUTS, export_encoder
from surrogates.rlm.inputs import TextBatch
from surrogates.rlm.model import Memory, RLMNetwork


class EncoderRuntime(ABC):
    """Encodes batches for one network and its present weights."""

    @abstractmethod
    def memory(self, batch: TextBatch) -> Memory:
        """As ``RLMNetwork.memory``; the result is where the batch is."""


class TorchRuntime(EncoderRuntime):
    """The network itself, its encoder compiled if asked for."""

    def __init__(self, network: RLMNetwork, *, compiled: bool = False) -> None:
        self._network = network
        self._compiled: Callable[[TextBatch], States] | None = None
        if compiled:
            try:
                self._compiled = torch.compile(network.encoder, dynamic=True)
            except RuntimeError as error:  # e.g. a version of Python that it does not know
                self._give_up(error)

    def memory(self, batch: TextBatch) -> Memory:
        """See ``EncoderRuntime``."""
        if self._compiled is not None:
            try:
                return self._network.remember(self._compiled(batch))
            except torch._dynamo.exc.TorchDynamoException as error:
                self._give_up(error)
        return self._network.memory(batch)

    def _give_up(self, error: Exception) -> None:
        self._compiled = None
        reason = str(error).strip().split("\n")[0]
        warnings.warn(
            f"torch.compile does not work here ({reason}); predicting without it. It needs a C++ compiler (g++ or "
            "clang, or CXX set to one); DecodingConfig(compile=False) silences this",
            RuntimeWarning,
            stacklevel=2,
        )


class OnnxRuntime(EncoderRuntime):
    """ONNX Runtime on the CPU, with torch's number of threads; the encoder is exported once.

    Raises:
        UsageError: The network has another encoder than the wired one.
    """

    def __init__(self, network: RLMNetwork, *, int8: bool) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        with tempfile.TemporaryDirectory() as folder:
            path = export_encoder(network, Path(folder) / "encoder.onnx", int8=int8)
            self._session = onnxruntime.InferenceSession(path.read_bytes(), options, ["CPUExecutionProvider"])

    def memory(self, batch: TextBatch) -> Memory:
        """See ``EncoderRuntime``."""
        inputs = {name: getattr(batch, name).cpu().numpy() for name in INPUTS}
        (found,) = self._session.run(None, inputs)
        parts = torch.from_numpy(found).to(batch.ids.device)
        return Memory(tuple(parts[0::2]), tuple(parts[1::2]), batch.present[:, None, None, :])


RUNTIMES: dict[str, Callable[[RLMNetwork, DecodingConfig], EncoderRuntime]] = {
    "torch": lambda network, config: TorchRuntime(network, compiled=config.compile),
    "onnxruntime": lambda network, config: OnnxRuntime(network, int8=False),
    "onnxruntime-int8": lambda network, config: OnnxRuntime(network, int8=True),
}


class RuntimeCache:
    """Keeps the runtime in use until the network, its weights or the settings change."""

    def __init__(self) -> None:
        self._network: RLMNetwork | None = None
        self._key: tuple[object, ...] = ()
        self._runtime: EncoderRuntime | None = None

    def __reduce__(self) -> tuple[type[RuntimeCache], tuple[()]]:
        return RuntimeCache, ()  # a copy makes its own: sessions and compiled code cannot travel

    def get(self, network: RLMNetwork, config: DecodingConfig) -> EncoderRuntime:
        """The runtime that ``config`` asks for.

        Raises:
            UsageError: It cannot run this network's encoder.
        """
        weights = tuple((parameter.data_ptr(), parameter._version) for parameter in network.parameters())
        key = (config.encoder_runtime, config.compile, weights)
        if self._runtime is None or self._network is not network or self._key != key:
            self._runtime = RUNTIMES[config.encoder_runtime](network, config)
            self._network, self._key = network, key
        return self._runtime
