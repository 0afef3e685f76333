"""What a detector calls anomalous, to listen to: a clip taken apart into anomaly and background.

The anomaly map becomes a mask on the clip's short-time spectrum: the masked part is the isolated anomaly, the
rest the cleaned background, both with the clip's own phase. Together they are the clip again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vision_to_sound.audio import is_silence, rms_without_mean
from vision_to_sound.files import replacing
from vision_to_sound.front_ends import hz_to_mel

if TYPE_CHECKING:
    from vision_to_sound.front_ends import FrontEnd

_SILENCE = 1e-12  # an RMS: ratios of silence stay finite


def separate(
    waveform: np.ndarray, anomaly_map: np.ndarray, *, front_end: FrontEnd, sample_rate_hz: int
) -> tuple[np.ndarray, np.ndarray]:
    """(isolated, cleaned): what the map points at, and the rest; their sum is the waveform.

    The spectrum is that of the waveform at its own rate, whatever the front end's: a clip of 44.1 kHz keeps its
    whole band even where a detector heard it at 16 kHz. The window lasts as long as the front end's, a quarter of
    it from frame to frame. The mask (see `soft_mask`) is read off between its frames and band centres, linearly in
    time and on the mel scale, and held beyond the outermost ones.

    Args:
        waveform: float32 (n_samples,), longer than half a window.
        anomaly_map: (n_frames, n_mels) on the cells of the front end's spectrogram of this waveform.

    Returns:
        Two float32 (n_samples,).

    Raises:
        ValueError: a map of another shape than the spectrogram's.
    """
    from scipy.signal import ShortTimeFFT  # most of a second, and most callers never separate
    from scipy.signal.windows import hann

    n_at_front_end = -(-len(waveform) * front_end.sample_rate_hz // sample_rate_hz)
    expected = (front_end.n_frames(n_at_front_end), front_end.n_mels)
    if anomaly_map.shape != expected:
        raise ValueError(
            f"map of shape {anomaly_map.shape}, expected {expected} for {len(waveform)} samples at "
            f"{sample_rate_hz} Hz under front end {front_end.name!r}: is it this clip's?"
        )
    n_window = round(front_end.n_fft * sample_rate_hz / front_end.sample_rate_hz)
    transform = ShortTimeFFT(
        hann(n_window, sym=False), hop=max(1, n_window // 4), fs=sample_rate_hz
    )
    samples = waveform.astype(np.float64)
    mask = _on_spectrum(
        soft_mask(anomaly_map),
        front_end,
        times_s=transform.t(len(samples)),
        frequencies_hz=transform.f,
    )
    spectrum = transform.stft(samples)  # (n_bins, n_times)
    isolated = transform.istft(spectrum * mask.T, k1=len(samples)).astype(np.float32)
    return isolated, (samples - isolated).astype(np.float32)  # the transform is linear


def soft_mask(anomaly_map: np.ndarray) -> np.ndarray:
    """Share of each cell that is anomaly: float64 (n_frames, n_mels), 0 up to the map's median, 1 at its maximum.

    Linear in between; 0 everywhere for a constant map. Most cells of a clip are ordinary: measured from the
    minimum instead, as a plain min-max does, they keep a quarter or more of their amplitude, and that is most of
    what one hears in the isolated part (tone, click or chirp in noise: event over background 4 to 19 dB lower).
    Only where half of the cells or more lie at the maximum is the minimum taken.
    """
    anomaly_map = np.asarray(anomaly_map, dtype=np.float64)
    high, low = anomaly_map.max(), np.median(anomaly_map)
    if low == high:
        low = anomaly_map.min()
    return np.maximum(anomaly_map - low, 0.0) / (high - low if high > low else 1.0)


def _on_spectrum(
    mask: np.ndarray, front_end: FrontEnd, *, times_s: np.ndarray, frequencies_hz: np.ndarray
) -> np.ndarray:
    """Mask (n_frames, n_mels) of a front end at other times and frequencies: (n_times, n_frequencies)."""
    frame_times_s = front_end.frame_times_s(len(mask))
    in_time = np.stack([np.interp(times_s, frame_times_s, band) for band in mask.T], axis=1)
    band_mels, mels = (
        [hz_to_mel(hz, front_end.mel_scale) for hz in frequencies]
        for frequencies in (front_end.mel_band_centres_hz(), frequencies_hz)
    )
    return np.stack([np.interp(mels, band_mels, frame) for frame in in_time])


def event_over_background_db(
    background: np.ndarray,
    event: np.ndarray,
    anomaly_map: np.ndarray,
    *,
    front_end: FrontEnd,
    sample_rate_hz: int,
) -> dict[str, float]:
    """RMS of the event over RMS of the background in dB, in the "isolated" and the "cleaned" part; NaN in silence.

    Exact, not estimated: masking is linear, so what a mask leaves of a mixture is what it leaves of either stem.

    background, event: float32 (n_samples,), the stems of the mixture that the map belongs to.
    """
    of_background, of_event = (
        separate(stem, anomaly_map, front_end=front_end, sample_rate_hz=sample_rate_hz)
        for stem in (background, event)
    )
    return {
        part: _ratio_db(of_background[i], of_event[i])
        for i, part in enumerate(("isolated", "cleaned"))
    }


def export_example(
    directory: Path,
    n: int,
    stems: Mapping[str, np.ndarray],
    maps: Mapping[str, np.ndarray],
    *,
    front_ends: Mapping[str, FrontEnd],
    sample_rate_hz: int,
) -> dict[str, float]:
    """Write one clip, its stems and the two parts that each method takes it apart into; measure the parts.

    Files: `{n}_{name}.wav` for all stems, `{n}_{method}_isolated.wav` and `{n}_{method}_cleaned.wav`.

    Args:
        stems: name -> float32 (n_samples,); the clip itself first, then maybe "background" and "event".
        maps: method -> anomaly map of the clip.
        front_ends: method -> front end of its map.

    Returns:
        Columns of a table: wav_gain (common to all files); by method the level of the isolated part against the
        clip, `<method>_isolated_level_db`; where both stems are known the event's RMS over the background's in
        dB, `mixture_event_over_background_db`, `<method>_isolated_...` and `<method>_cleaned_...`.
    """
    clip = next(iter(stems.values()))
    parts, columns = {}, {}
    know_stems = {"background", "event"} <= set(stems)
    if know_stems:
        ratio_db = _ratio_db(stems["background"], stems["event"])
        columns["mixture_event_over_background_db"] = ratio_db
    for method, anomaly_map in maps.items():
        heard = {"front_end": front_ends[method], "sample_rate_hz": sample_rate_hz}
        isolated, cleaned = separate(clip, anomaly_map, **heard)
        parts |= {f"{method}_isolated": isolated, f"{method}_cleaned": cleaned}
        columns[f"{method}_isolated_level_db"] = level_db(isolated) - level_db(clip)
        if know_stems:
            ratios_db = event_over_background_db(
                stems["background"], stems["event"], anomaly_map, **heard
            )
            for part, ratio_db in ratios_db.items():
                columns[f"{method}_{part}_event_over_background_db"] = ratio_db
    gain = write_wavs(directory, n, {**stems, **parts}, sample_rate_hz=sample_rate_hz)
    return {"wav_gain": gain, **columns}


def level_db(samples: np.ndarray) -> float:
    """RMS without the mean (DC is not heard) in dB re full scale; -240 dB for silence."""
    return float(20.0 * np.log10(max(rms_without_mean(samples), _SILENCE)))


def _ratio_db(background: np.ndarray, event: np.ndarray) -> float:
    if is_silence(background) and is_silence(event):
        return float("nan")
    return level_db(event) - level_db(background)


def write_wavs(
    directory: Path, n: int, signals: Mapping[str, np.ndarray], *, sample_rate_hz: int
) -> float:
    """Write `{n}_{name}.wav`, 16 bit, for each signal float32 (n_samples,); returns their common gain.

    WAV has a full scale: the gain is 1, or what keeps the loudest of them from clipping. It is one for all, so
    that parts of a signal still add up to it.
    """
    import soundfile

    gain = 1.0 / max(1.0, *(float(np.abs(samples).max()) for samples in signals.values()))
    for name, samples in signals.items():
        with replacing(Path(directory) / f"{n}_{name}.wav") as path:
            soundfile.write(path, gain * samples, sample_rate_hz, subtype="PCM_16")
    return gain
