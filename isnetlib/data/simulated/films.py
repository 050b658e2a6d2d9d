"""Simulated chest films: what a hospital leaves outside the lungs (contrast, collimation, marker) tells the class.

`add_findings` changes pixels of the lung mask alone, `apply_look` others alone, which is kinder than reality. Nobody is
portrayed. Lengths are shares of half the image's side; x runs to the right, y down; brightness 0 (air) to 1 (bone).
"""

import functools
from collections import namedtuple

import numpy as np
from scipy.ndimage import gaussian_filter

from isnetlib.data.backgrounds import augment as move
from isnetlib.data.images import Experiment, check_range, grey_images, named_rows
from isnetlib.data.simulated import drawing
from isnetlib.data.simulated.drawing import VALUES, ellipse, smooth_noise, step

HOSPITALS = VALUES["hospitals"]
SMALLEST = 64  # pixels: below it markers would reach the lungs and nodules would be no more than noise
CHUNK = 30  # films drawn at once, each chunk from its own seed; a multiple of every number of classes
EDGE = 0.03  # from the lungs' border to where a finding has its full strength
LESIONS = 8


def load(
    kind: str,
    size: int = 64,
    data_seed: int = 0,
    train_size: int = 1000,
    validation_size: int = 300,
    test_size: int = 400,
    augment: bool = False,
    bias: str = "look",
    test_seed: int | None = None,
) -> Experiment:
    """Simulated films, in training each class from its own hospital; sizes count films, classes taking turns.

    Tests: `internal` (as training), `deceiving` (the same films, each as the other class's hospital shows it); of
    "tuberculosis" `hospital_c` and `hospital_d` (unseen, both classes in each), of "covid" `external` (each class from
    an unseen hospital of its own).

    kind : "tuberculosis" (against normal; auc), "covid" (against normal and pneumonia, both of one hospital; macro_f1)
    augment : needed to learn 1,000 films well, even by the lungs alone (results/simulated/further_trials.csv)
    bias : how the two hospitals of training differ: "look", or "marks" (a letter in a corner alone)
    test_seed : of the tests alone, so that they can be films that nobody has looked at; None: data_seed
    """
    sizes = {"train_size": train_size, "validation_size": validation_size, "test_size": test_size}
    check_range(SMALLEST, size=size)
    check_range(1, **sizes)
    if bias not in ("look", "marks"):
        raise ValueError(f"bias must be 'look' or 'marks', not {bias!r}")
    of = VALUES["experiments"][kind]
    parts = ["train", "validation", "internal", *of["away"]]

    def draw(rng, _):  # film and mask (N, H, W), classes in turn, before any look, and uniform numbers for it (N, 8)
        patients = draw_patients(CHUNK, size, rng)
        film = add_findings(patients, np.resize(of["classes"], CHUNK), of["strength"], rng)
        return film, patients.mask, rng.random((CHUNK, 8), dtype=np.float32)

    @functools.cache
    def drawn(part):
        seed = data_seed if test_seed is None or part in ("train", "validation") else test_seed
        return drawing.in_chunks(draw, sizes.get(f"{part}_size", test_size), CHUNK, [seed, parts.index(part)])

    def build(part, hospitals):
        film, mask, u = drawn(part)
        y, x = np.arange(len(film)) % len(hospitals), np.empty(film.shape, dtype=np.uint8)
        source = np.array(hospitals)[y]
        for name in set(hospitals):
            rows = source == name
            x[rows] = drawing.to_bytes(apply_look(film[rows], mask[rows], HOSPITALS[name], u[rows]))
        return grey_images(x, y, mask, named_rows(part, range(len(y))).assign(source=source, y=y), of["classes"])

    tests = of[bias] | of["away"]
    train, validation = (build(part, tests["internal"]) for part in ("train", "validation"))
    train.augment = move if augment else None
    tests = {name: build("internal" if name == "deceiving" else name, own) for name, own in tests.items()}
    return Experiment(train, validation, tests, of["metric"], hashes={}, publishable=True)


# --- drawing. Here and below x and y (N, H, W) are the torso's own coordinates, a its anatomy: name -> (N, 1, 1), film
# (N, H, W) brightness float32, mask bool, inside the depth inside the lungs.
Patients = namedtuple("Patients", "film mask inside x y anatomy")


def draw_patients(n: int, size: int, rng: np.random.Generator) -> Patients:
    """`n` healthy films of size x size pixels. The mask is the lungs without what lies behind heart and diaphragm."""
    x, y, a = drawing.drawn_body(rng, n, size, "anatomy")
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
    return np.minimum.reduce([lateral - s, s - medial, 0.8 * (floor - y), y - a["apex"], -heart(x, y, a)])


def heart(x: np.ndarray, y: np.ndarray, a: dict) -> np.ndarray:
    """About the distance inside the heart and the aortic knob."""
    u = x - 0.35 * (y - a["dome"])  # leaning down to the patient's left
    main = ellipse(u, y, a["heart_x"] + 0.06, a["dome"] - 0.20, 0.75 * a["heart"], 1.2 * a["heart"])
    return np.maximum(main, ellipse(x, y, 0.09, -0.26, a["knob"] + 0.03, a["knob"]))


def body(x: np.ndarray, y: np.ndarray, a: dict) -> np.ndarray:
    """Brightness of the soft parts: neck, shoulders, flanks, mediastinum, heart, belly; air beside them."""
    s, shoulder = np.abs(x), np.clip((y + 1.02) / 0.42, 0, 1)
    soft = 0.52 + 0.20 * np.exp(-((s / 0.17) ** 2)) + 0.08 * step(y - a["dome"] - 0.05, 0.3)
    soft = soft + 0.10 * step(heart(x, y, a), 0.08) - 0.10 * np.exp(-((x / 0.035) ** 2)) * step(-0.35 - y, 0.2)
    return 0.04 + soft * step(0.26 + 0.75 * shoulder**1.6 - s, 0.08)


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


# --- findings: each takes uniform numbers u (LESIONS, 8, N, 1, 1) and returns an opacity (N, H, W) >= 0
def add_findings(patients: Patients, kinds, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Films (N, H, W) with findings `kinds` (N,) of opacity up to `strength`, and a small calcified spot in a third."""
    kinds, (n, size, _) = np.asarray(kinds), patients.film.shape
    u = np.moveaxis(rng.random((n, LESIONS, 8)).astype(np.float32), 0, 2)[..., None, None]
    noise = smooth_noise(rng, n, size, 0.06)
    opacity = np.zeros_like(patients.film)
    for kind in set(kinds) - {"normal"}:
        rows = kinds == kind
        opacity[rows] = FINDINGS[kind](patients, u, noise)[rows]
    opacity *= strength * (0.4 + 0.6 * u[0, 7])
    opacity += (u[1, 7] < 1 / 3) * (0.2 * _blob(patients, *_place(patients, u[7], (0.1, 0.9)), 0.025))
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
        at = (u[k, 0] + k % 2) / 2, *u[k, 1:3]  # the lungs take turns
        cx, cy = _place(patients, at, (0.35, 0.92), (0.72, 1.0))
        opacity += (u[k, 3] < 0.75) * _blob(patients, cx, cy, 0.07 + 0.06 * u[k, 4], 1.5)
    return 0.75 * np.minimum(opacity, 1.2) * np.clip(1 + 0.5 * noise, 0, 2)


def pneumonia(patients: Patients, u: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """One dense consolidation, anywhere in one lung but its apex."""
    cx, cy = _place(patients, u[0], (0.35, 0.85), (0.3, 0.8))
    distance = np.hypot(patients.x - cx, (patients.y - cy) / 0.8) / (0.15 + 0.09 * u[0, 3]) + 0.15 * noise
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


def apply_look(film: np.ndarray, mask: np.ndarray, look: dict, u: np.ndarray) -> np.ndarray:
    """Films (N, H, W) as the hospital shows them, lung pixels bit for bit; u (N, 8): uniform numbers of their looks."""
    size, ranges = film.shape[1], [look["contrast"], look["level"], *[look["breadth"]] * 4]
    contrast, level, *breadths = (low + (high - low) * u[:, k, None, None] for k, (low, high) in enumerate(ranges))
    near = gaussian_filter(mask.astype(np.float32), (0, 0.02 * size, 0.02 * size))
    changed = film + np.clip(1 - 2 * near, 0, 1) * (level + (contrast - 1) * film)
    x, y = drawing.grid(size)
    for edge, distance, breadth in zip("lrtb", (x + 1, 1 - x, y + 1, 1 - y), breadths, strict=True):
        if edge in look["edges"]:
            changed = np.where(distance < breadth, look["border"], changed)
    write_marker(changed, look, u[:, 6:])
    return np.where(mask, film, changed)


def write_marker(films: np.ndarray, look: dict, u: np.ndarray) -> None:
    """Write the marker into `films`, each at its own place in the corner; u (N, 2) uniform numbers."""
    size, (down, aside) = films.shape[1], (1 if edge in "tl" else -1 for edge in look["corner"])
    letters = drawing.text(look["word"], max(1, size // 64))[::down, ::aside]
    height, width = letters.shape
    places = size // 48 + (size // 24 * u).astype(int)
    for film, (top, left) in zip(films[:, ::down, ::aside], places, strict=True):  # seen from the corner
        film[top : top + height, left : left + width][letters] = look["ink"]
