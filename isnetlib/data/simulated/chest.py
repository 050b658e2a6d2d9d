"""Simulated chest films: a torso with lungs of known outline, findings inside the lungs, a hospital's look outside.

Three steps, so that what tells what is known: `draw_patients` draws the healthy anatomy, `add_findings` changes pixels
of the lung mask alone, `apply_look` changes pixels outside it alone. Nothing here is a patient or imitates one film.
Lengths are shares of half the image's side; x runs to the right, y down; brightness 0 (air) to 1 (bone).
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from isnetlib.data.simulated.drawing import ellipse, grid, own_coordinates, smooth_noise, step, text, uniform

# The range of each value. How the patient stands (radians, shifts, scale); the rib cage at its widest; top of the
# diaphragm, from there to the angle at its side, by which the right dome is higher; from the spine to the lung; half
# the heart's breadth and height are shares of "heart"; spacing of the ribs, their phase and contrast; height and slope
# of the clavicles; vessels; by which air makes the lungs darker; exposure and grain of the whole film.
# fmt: off
ANATOMY = {
    "turn": (-0.05, 0.05), "shift_x": (-0.05, 0.05), "shift_y": (-0.06, 0.03), "scale": (0.92, 1.03),
    "width": (0.72, 0.82), "apex": (-0.78, -0.68), "dome": (0.34, 0.48), "depth": (0.10, 0.20), "liver": (0.02, 0.10),
    "medial": (0.10, 0.14), "heart": (0.30, 0.42), "heart_x": (0.08, 0.16), "knob": (0.08, 0.12),
    "ribs": (0.155, 0.19), "rib_phase": (0.0, 1.0), "rib_contrast": (0.04, 0.10), "clavicle": (-0.70, -0.60),
    "slope": (-0.30, -0.12), "vessels": (0.06, 0.13), "vessel_phase": (0.0, 6.28), "hilum": (0.05, 0.13),
    "dark": (0.24, 0.34), "exposure": (-0.05, 0.05), "grain": (0.010, 0.025),
}
# fmt: on
EDGE = 0.03  # from the lungs' border to where a finding has its full strength
LESIONS = 8


class Patients(NamedTuple):
    """Films before a hospital's look."""

    film: np.ndarray  # brightness, (N, H, W) float32
    mask: np.ndarray  # (N, H, W) bool
    inside: np.ndarray  # depth inside the lungs, (N, H, W)
    x: np.ndarray  # the torso's own coordinates, as y: (N, H, W)
    y: np.ndarray
    anatomy: dict[str, np.ndarray]  # name -> (N, 1, 1)


class Look(NamedTuple):
    """What a hospital does to its films outside the lungs."""

    contrast: tuple[float, float]  # brightness becomes level + contrast * brightness
    level: tuple[float, float]
    edges: str  # collimated, of "l", "r", "t", "b"
    border: float  # their brightness
    breadth: tuple[float, float]
    word: str  # the marker's letters
    corner: str  # where it stands: "tl", "tr", "bl", "br"
    ink: float  # its brightness


def draw_patients(n: int, size: int, rng: np.random.Generator) -> Patients:
    """`n` healthy films of size x size pixels. The mask is the lungs without what lies behind heart and diaphragm."""
    a = uniform(rng, n, ANATOMY)
    x, y = own_coordinates(size, a)
    inside = lungs(x, y, a)
    film = body(x, y, a) - a["dark"] * step(inside, 5 / size) + bones(x, y, a)
    film += vessels(x, y, a, smooth_noise(rng, n, size, 0.08)) * step(inside, EDGE)
    film += 0.012 * smooth_noise(rng, n, size, 0.15) * step(0.98 - np.abs(x), 0.1)
    film = gaussian_filter(film, (0, 0.5, 0.5)) + a["exposure"] + a["grain"] * smooth_noise(rng, n, size, 1 / size)
    return Patients(film, inside > 0, inside, x, y, a)


def borders(t: np.ndarray, a: dict) -> tuple[np.ndarray, np.ndarray]:
    """Medial and lateral border of a lung, as distances from the spine, at the height t: 0 apex, 1 base."""
    t = np.clip(t, 0, 1)
    return a["medial"] * (1 + 0.5 * np.sin(np.pi * t) ** 2), a["width"] * (1 - (1 - t) ** 2.2) ** 0.5


def lungs(x: np.ndarray, y: np.ndarray, a: dict) -> np.ndarray:
    """About the distance inside the lungs: positive within, negative outside."""
    s, right = np.abs(x), x < 0  # the patient's right is the picture's left
    medial, lateral = borders((y - a["apex"]) / (a["dome"] + a["depth"] - a["apex"]), a)
    aside = np.maximum(s / a["width"] - 0.55, -0.15) / 0.45  # the dome is flat towards the heart
    floor = a["dome"] - a["liver"] * right + a["depth"] * aside**2
    inside = np.minimum.reduce([lateral - s, s - medial, 0.8 * (floor - y), y - a["apex"]])
    return np.minimum(inside, -heart(x, y, a))


def heart(x: np.ndarray, y: np.ndarray, a: dict) -> np.ndarray:
    """About the distance inside the heart and the aortic knob."""
    u = x - 0.35 * (y - a["dome"])  # leaning down to the patient's left
    main = ellipse(u, y, a["heart_x"] + 0.06, a["dome"] - 0.20, 0.75 * a["heart"], 1.2 * a["heart"])
    return np.maximum(main, ellipse(x, y, 0.09, -0.26, a["knob"] + 0.03, a["knob"]))


def body(x: np.ndarray, y: np.ndarray, a: dict) -> np.ndarray:
    """Brightness of the soft parts: neck, shoulders, flanks, mediastinum, heart, belly; air beside them."""
    s = np.abs(x)
    shoulder = np.clip((y + 1.02) / 0.42, 0, 1)
    inside = 0.26 + 0.75 * shoulder**1.6 - s
    soft = 0.52 + 0.20 * np.exp(-((s / 0.17) ** 2)) + 0.08 * step(y - a["dome"] - 0.05, 0.3)
    soft = soft + 0.10 * step(heart(x, y, a), 0.08) - 0.10 * np.exp(-((x / 0.035) ** 2)) * step(-0.35 - y, 0.2)
    return 0.04 + soft * step(inside, 0.08)


def bones(x: np.ndarray, y: np.ndarray, a: dict) -> np.ndarray:
    """Brightness that ribs, clavicles and spine add: posterior ribs fall to the side, anterior ones rise."""
    s = np.abs(x)
    cage = step(a["width"] + 0.06 - s, 0.06) * step(y - a["apex"] + 0.05, 0.1)
    cage = cage * step(a["dome"] + 0.15 + a["depth"] * s - y, 0.25)
    posterior = np.cos(2 * np.pi * ((y - 0.35 * np.sqrt(s + 0.01) + 0.5 * s * s) / a["ribs"] + a["rib_phase"]))
    anterior = np.cos(2 * np.pi * ((y + 0.45 * (a["width"] - s) ** 2 - 0.55 * s) / (1.15 * a["ribs"]) + a["rib_phase"]))
    ribs = np.clip(posterior - 0.2, 0, None) + 0.6 * np.clip(anterior - 0.35, 0, None) * step(s - 0.3, 0.1)
    along = a["clavicle"] + a["slope"] * (s - 0.1) + 0.05 * np.sin(6 * s) - y
    clavicle = np.exp(-((along / 0.035) ** 2)) * step(s - 0.08, 0.04) * step(0.72 - s, 0.1)
    spine = 0.03 * np.cos(2 * np.pi * y / 0.13) * np.exp(-((s / 0.08) ** 2))
    return a["rib_contrast"] * ribs * cage + 0.12 * clavicle + spine


def vessels(x: np.ndarray, y: np.ndarray, a: dict, noise: np.ndarray) -> np.ndarray:
    """Brightness of hila and vessels: streaks that leave the hila and fade; `noise` (N, H, W) bends them."""
    dx, dy = np.abs(x) - a["medial"] - 0.03, y - 0.02
    r = np.sqrt(dx * dx + dy * dy) + 1e-6
    streak = np.cos(9 * np.arctan2(dy, dx) + a["vessel_phase"] + 1.5 * noise + 3 * np.sign(x))
    texture = (np.clip(streak, 0, None) ** 2 + 0.35 * noise) * np.exp(-r / 0.35)
    return a["vessels"] * texture + a["hilum"] * np.exp(-((dx / 0.07) ** 2) - (dy / 0.16) ** 2)


# --- findings: each takes uniform numbers u (LESIONS, 8, n, 1, 1) of its films and returns their opacity (n, H, W) >= 0


def add_findings(patients: Patients, kinds, strength: float, rng: np.random.Generator) -> np.ndarray:
    """The films (N, H, W) with the finding that `kinds` (N,) names, "normal" being none, and in a third of all films a
    small calcified spot. Pixels outside the mask stay as they are, bit for bit. strength: the highest opacity.
    """
    kinds, (n, size, _) = np.asarray(kinds), patients.film.shape
    u = np.moveaxis(rng.random((n, LESIONS, 8)).astype(np.float32), 0, 2)[..., None, None]
    noise = smooth_noise(rng, n, size, 0.06)
    opacity = np.zeros_like(patients.film)
    for kind, draw in FINDINGS.items():
        rows = np.flatnonzero(kinds == kind)
        anatomy = {name: value[rows] for name, value in patients.anatomy.items()}
        part = Patients(*(value[rows] for value in patients[:-1]), anatomy)
        opacity[rows] = draw(part, u[:, :, rows], noise[rows])
    opacity *= strength * (0.4 + 0.6 * u[0, 7])
    spot = 0.2 * _blob(patients, *_place(patients, u[7], (0.1, 0.9)), 0.025)
    opacity += (u[1, 7] < 1 / 3) * spot
    return patients.film + patients.mask * opacity * np.clip(patients.inside / EDGE, 0, 1)


def tuberculosis(patients: Patients, u: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """An infiltrate in one upper zone, small nodules around it, in half of the films a cavity."""
    cx, cy = _place(patients, u[0], (0.14, 0.42))
    opacity = 0.7 * _blob(patients, cx, cy, 0.10 + 0.07 * u[0, 3]) * np.clip(1 + 0.6 * noise, 0, 2)
    for k in range(1, 6):
        dx, dy = 0.34 * (u[k, 0] - 0.5), 0.40 * (u[k, 1] - 0.5)
        opacity += (u[k, 2] < 0.7) * _blob(patients, cx + dx, cy + dy, 0.028 + 0.02 * u[k, 3])
    radius = 0.045 + 0.035 * u[6, 0]
    distance = np.hypot(patients.x - cx, patients.y - cy - 0.05)
    ring = np.exp(-(((distance - radius) / 0.03) ** 2)) - 0.4 * step(radius - distance, 0.03)
    return np.maximum(opacity + (u[6, 1] < 0.5) * ring, 0)


def covid(patients: Patients, u: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Hazy patches at the periphery of both lungs, most in the middle and lower zones."""
    opacity = np.zeros_like(patients.film)
    for k in range(6):
        one = u[k].copy()
        one[0] = (one[0] + k % 2) / 2  # the lungs take turns
        cx, cy = _place(patients, one, (0.35, 0.92), (0.72, 1.0))
        opacity += (u[k, 3] < 0.75) * _blob(patients, cx, cy, 0.07 + 0.06 * u[k, 4], 1.5)
    return 0.75 * np.minimum(opacity, 1.2) * np.clip(1 + 0.5 * noise, 0, 2)


def pneumonia(patients: Patients, u: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """One dense consolidation, anywhere in one lung but its apex."""
    cx, cy = _place(patients, u[0], (0.35, 0.85), (0.3, 0.8))
    radius = 0.15 + 0.09 * u[0, 3]
    distance = np.hypot(patients.x - cx, (patients.y - cy) / 0.8) / radius + 0.15 * noise
    return 0.85 / (1 + np.clip(distance, 0, None) ** 5)


FINDINGS = {"tuberculosis": tuberculosis, "covid": covid, "pneumonia": pneumonia}


def _place(patients, u, heights, across=(0.3, 0.85)):
    """A point in a lung: side, height and place between the borders from u (8, n, 1, 1)[:3]; (n, 1, 1) each."""
    a, (side, t, q) = patients.anatomy, u[:3]
    t = heights[0] + (heights[1] - heights[0]) * t
    medial, lateral = borders(t, a)
    s = medial + (across[0] + (across[1] - across[0]) * q) * (lateral - medial)
    return np.where(side < 0.5, -s, s), a["apex"] + t * (a["dome"] + a["depth"] - a["apex"])


def _blob(patients, cx, cy, radius, tall=1.0):
    return np.exp(-0.5 * (((patients.x - cx) / radius) ** 2 + ((patients.y - cy) / (tall * radius)) ** 2))


# --- looks


def apply_look(film: np.ndarray, mask: np.ndarray, look: Look, u: np.ndarray) -> np.ndarray:
    """Films (N, H, W) as the hospital shows them; lung pixels stay as they are, bit for bit. u (N, 8) uniform numbers:
    the film's own contrast, level, collimation and place of the marker.
    """
    size = film.shape[1]
    near = gaussian_filter(mask.astype(np.float32), (0, 0.02 * size, 0.02 * size))
    contrast, level = (_within(ends, u[:, k]) for k, ends in enumerate((look.contrast, look.level)))
    changed = film + np.clip(1 - 2 * near, 0, 1) * (level + (contrast - 1) * film)
    x, y = grid(size)
    for k, (edge, distance) in enumerate({"l": x + 1, "r": 1 - x, "t": y + 1, "b": 1 - y}.items()):
        if edge in look.edges:
            changed = np.where(distance < _within(look.breadth, u[:, 2 + k]), look.border, changed)
    _mark(changed, look, u[:, 6:])
    return np.where(mask, film, changed)


def _within(ends, u):
    return (ends[0] + (ends[1] - ends[0]) * u)[:, None, None]


def _mark(films, look, u):
    """Write the marker into `films`, each at its own place in the corner."""
    size = films.shape[1]
    letters = text(look.word, max(1, size // 64))
    height, width = letters.shape
    margin, room = size // 48, size // 24
    for film, (down, across) in zip(films, u, strict=True):
        top, left = margin + int(room * down), margin + int(room * across)
        top = top if look.corner[0] == "t" else size - height - top
        left = left if look.corner[1] == "l" else size - width - left
        film[top : top + height, left : left + width][letters] = look.ink
