"""What ``benchmarks.engine`` decodes: models in published shapes or the embedded one, and windows."""

import copy
import warnings
from dataclasses import dataclass
from importlib import resources

import soundfile
import torch
from torch import Tensor
from whisper.model import ModelDimensions, Whisper
from whisper.tokenizer import Tokenizer, get_tokenizer

from benchmarks.engine_report import DEMO
from stream_server.audio.decoder import SAMPLE_RATE_HZ
from stream_server.engine.accelerator import lower_precision
from stream_server.engine.manifest import embedded_model, read_manifest
from stream_server.engine.model import load_whisper
from stream_server.engine.windows import WINDOW_SAMPLES_MAX, log_mel

SHAPES = {
    # name: width, heads, layers of the encoder and of the decoder, tokens, mel bands
    "tiny": (384, 6, 4, 4, 51_865, 80),
    "base": (512, 8, 6, 6, 51_865, 80),
    "small": (768, 12, 12, 12, 51_865, 80),
    "medium": (1_024, 16, 24, 24, 51_865, 80),
    "large-v3": (1_280, 20, 32, 32, 51_866, 128),
    "large-v3-turbo": (1_280, 20, 32, 4, 51_866, 128),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """A model and the windows that it is to read."""

    name: str
    model: Whisper
    """As whisper reads it, its weights float32."""
    own_model: Whisper
    """As the engine reads it: the same, or a copy whose weights are smaller."""
    tokenizer: Tokenizer
    mels: dict[str, Tensor]
    """By context, float (B, n_mels, 2T) with the most rows that are asked for."""
    n_tokens: int
    ends_itself: bool

    @property
    def prompt(self) -> list[int]:
        """What each window is asked: transcribe English, no timestamps."""
        return [*self.tokenizer.sot_sequence_including_notimestamps]


def random_model(name: str) -> Whisper:
    """A published shape whose rows never end by themselves."""
    width, n_head, n_encoder, n_decoder, n_vocab, n_mels = SHAPES[name]
    dims = ModelDimensions(n_mels, 1500, width, n_head, n_encoder, n_vocab, 448, width, n_head, n_decoder)
    generator = torch.Generator().manual_seed(0)
    model = Whisper(dims)
    for parameter in model.parameters():
        std = 0.3 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
        # Numbers of float16, as in published weights.
        parameter.data.normal_(std=std, generator=generator)
        parameter.data.copy_(parameter.half())
    # Its logit is 0, and among 51,864 others there is always a higher one.
    model.decoder.token_embedding.weight.data[_tokenizer(model).eot] = 0
    return model.eval().requires_grad_(False)


def _tokenizer(model: Whisper) -> Tokenizer:
    with warnings.catch_warnings():
        # whisper leaves closing its vocabulary to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        return get_tokenizer(
            model.is_multilingual, num_languages=model.num_languages, language="en", task="transcribe"
        )


def recordings(n_windows: int, window_s: float) -> list[bytes]:
    """The beginnings of the included recordings, in turn, int16."""
    folder = resources.files("stream_server") / "assets" / "recordings"
    n_samples = round(window_s * SAMPLE_RATE_HZ)
    return [
        soundfile.read(str(folder / f"{1 + i % 12:02}.flac"), dtype="int16")[0][:n_samples].tobytes()
        for i in range(n_windows)
    ]


def make_subject(
    name: str,
    n_windows: int,
    *,
    window_s: float,
    n_tokens: int,
    fits: bool,
    device: torch.device,
    dtype: torch.dtype,
) -> Subject:
    """Load or make a model, and its windows on the device."""
    if name == DEMO:
        model = load_whisper(embedded_model(), read_manifest(embedded_model()), device)
    else:
        model = random_model(name).to(device)
    n_fitted = round(window_s * SAMPLE_RATE_HZ)
    mels = {
        context: torch.stack(
            [log_mel(pcm, n, model.dims.n_mels, device) for pcm in recordings(n_windows, window_s)]
        ).to(dtype)
        for context, n in (("full", WINDOW_SAMPLES_MAX), ("fit", n_fitted))
        if context == "full" or fits
    }
    n_tokens = 16 + round(12 * window_s) if name == DEMO else n_tokens
    own_model = model
    if dtype != torch.float32:
        own_model = copy.deepcopy(model)
        lower_precision(own_model, dtype)
    return Subject(name, model, own_model, _tokenizer(model), mels, n_tokens, name == DEMO)


def fitted_whisper(model: Whisper, n_positions: int) -> Whisper:
    """The same weights as a whisper whose audio context is cut."""
    dims = ModelDimensions(**{**vars(model.dims), "n_audio_ctx": n_positions})
    reference = Whisper(dims)
    weights = dict(model.state_dict())
    key = "encoder.positional_embedding"
    weights[key] = weights[key][:n_positions]
    reference.load_state_dict(weights)
    return reference.eval().requires_grad_(False).to(model.device)
