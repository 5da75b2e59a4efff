"""Sounds made by code: tones of known pitch, and something like speech."""

from __future__ import annotations

from typing import Any

import numpy as np

RATE = 16_000


def tones(count: int, samples: int, seed: int) -> tuple[Any, Any]:
    """Return harmonic tones in noise, and the frequency of each.

    The frequency is drawn between 60 and 1,200 Hz, evenly by octaves; a tone has 3 to 15 harmonics
    that fall off by 3 to 12 dB an octave, a pitch that drifts by up to a percent, and noise 10 to
    40 dB below it.

    Args:
        count: how many.
        samples: of each, at 16 kHz.
        seed: equal seeds give equal sounds.

    Returns:
        float32 [count, samples], and the frequency in the middle in Hz, float64 [count].
    """
    random = np.random.RandomState(seed)
    frequencies = 60.0 * 20.0 ** random.rand(count)
    time = (np.arange(samples) - samples / 2) / RATE
    sounds = np.empty((count, samples), np.float32)
    for at, frequency in enumerate(frequencies):
        drift = 1 + random.uniform(-0.005, 0.005) * time / time[-1]
        fall = random.uniform(0.5, 2.0)
        wave = np.zeros(samples)
        for harmonic in range(1, random.randint(3, 16)):
            if harmonic * frequency < RATE / 2:
                angle = 2 * np.pi * harmonic * frequency * drift * time + random.rand() * 2 * np.pi
                wave += np.sin(angle) / harmonic**fall
        noise = random.randn(samples) * wave.std() * 10 ** (-random.uniform(10, 40) / 20)
        sounds[at] = wave + noise
    return sounds, frequencies


def utterances(count: int, samples: int, seed: int) -> Any:
    """Return something like speech: vowels of three formants, hisses and pauses in turn.

    Args:
        count: how many.
        samples: of each, at 16 kHz.
        seed: equal seeds give equal sounds.

    Returns:
        float32 [count, samples] in the range of 16-bit integers.
    """
    random = np.random.RandomState(seed)
    sounds = np.zeros((count, samples), np.float32)
    for row in sounds:
        at, pitch = 0, random.uniform(80, 260)
        while at < samples:
            length = min(int(random.uniform(0.05, 0.25) * RATE), samples - at)
            kind = random.rand()
            if kind < 0.65:
                piece = _vowel(random, length, pitch * random.uniform(0.85, 1.2))
            elif kind < 0.85:
                piece = np.diff(random.randn(length + 1)) * 0.15
            else:
                piece = np.zeros(length)
            row[at : at + length] = piece * np.hanning(length + 2)[1:-1] * random.uniform(0.3, 1)
            at += length
        row += random.randn(samples) * 10 ** random.uniform(-4, -2)
    return (sounds * 8000).clip(-32768, 32767).astype(np.float32)


def _vowel(random: Any, length: int, pitch: float) -> Any:
    formants = random.uniform((250, 800, 2200), (850, 2200, 3200))
    time, wave = np.arange(length) / RATE, np.zeros(length)
    for harmonic in range(1, int(4000 / pitch)):
        frequency = harmonic * pitch
        gain = sum(1 / (1 + ((frequency - formant) / 90) ** 2) for formant in formants)
        wave += gain * np.sin(2 * np.pi * frequency * time + random.rand() * 6.28)
    return wave / max(np.abs(wave).max(), 1e-9)
