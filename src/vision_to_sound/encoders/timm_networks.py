"""Networks of timm, trained on photographs, that see the spectrogram as an image.

The image is not square and not resized: one frame and one mel band are one pixel. Levels become pixel
values on one fixed scale, so that the features of a clip depend on nothing but that clip. Networks end
at their deepest tap.
"""

from __future__ import annotations

import torch
from torch import nn

from vision_to_sound import torch_setup  # noqa: F401  (before timm)
from vision_to_sound.encoders import EncoderSpec, tap_shapes

# isort: split
import timm
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD


class TimmEncoder(nn.Module):
    """An encoder built from its description, without pretrained weights.

    Module names in `network` equal those of the checkpoints. Can be trained.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.n_mels = spec.front_end.n_mels
        self.network = whole_network(spec)
        self.network.prune_intermediate_layers(list(spec.timm.tap_indices), prune_norm=True)

    def forward(self, log_mel_db: torch.Tensor) -> list[torch.Tensor]:
        """Taps of log-mel spectrograms.

        Args:
            log_mel_db: float32 (n, n_frames, n_mels), dB, from the encoder's own front end.

        Returns:
            float32 (n, n_time, n_freq, n_channels) for each of `spec.taps`, shallow to deep. Of a
            vision transformer: what a block passes on, before any normalisation, without the class
            token; it can be negative.

        Raises:
            ValueError: another number of mel bands, or too few frames for the deepest tap.
        """
        self.spec.check_spectrograms(log_mel_db.shape)
        shapes = tap_shapes(self.spec, log_mel_db.shape[1], self.n_mels)  # raises for short clips
        image = self._image(log_mel_db)
        is_transformer = bool(self.spec.timm.patch_cells)
        if is_transformer:
            patch = self.spec.timm.patch_cells
            n_time, n_freq, _ = shapes[0]
            image = image[:, :, : n_time * patch, : n_freq * patch]
        taps = self.network.forward_intermediates(
            image,
            indices=list(self.spec.timm.tap_indices),
            intermediates_only=True,
            output_fmt="NLC" if is_transformer else "NCHW",
        )
        if is_transformer:  # (n, n_time * n_freq, channels) each
            return [tap.unflatten(1, (n_time, n_freq)).float() for tap in taps]
        return [tap.permute(0, 2, 3, 1).float() for tap in taps]

    def _image(self, log_mel_db: torch.Tensor) -> torch.Tensor:
        """float32 (n, 3, n_frames, n_mels): grey, normalised as the photographs were."""
        black_db, white_db = self.spec.timm.black_db, self.spec.timm.white_db
        grey = ((log_mel_db - black_db) / (white_db - black_db)).unsqueeze(1)
        colours = zip(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, strict=True)
        return torch.cat([(grey - mean) / spread for mean, spread in colours], dim=1)


def whole_network(spec: EncoderSpec) -> nn.Module:
    """The published network with all its layers and initial weights; nothing is downloaded."""
    if spec.timm.patch_cells:
        # position embeddings are interpolated to the grid of the image at hand
        return timm.create_model(spec.timm.model, pretrained=False, dynamic_img_size=True)
    # Residual branches start alive, as torchvision's do: untrained features would else bypass them.
    return timm.create_model(spec.timm.model, pretrained=False, zero_init_last=False)
