"""Pictures of point clouds: a small splat renderer, and panels side by side."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from pointins_plugin.errors import UserError
from pointins_plugin.files import write_whole

BACKGROUND = 255
GREY = np.array([176, 178, 182], np.float32)


@dataclass
class Camera:
    """A perspective camera that looks at a point from above.

    Attributes:
        position: (3,) m.
        rotation: (3, 3), rows are right, down and forward.
        focal: pixels.
        width, height: of the picture, pixels.
    """

    position: np.ndarray
    rotation: np.ndarray
    focal: float
    width: int
    height: int

    def project(self, coord: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return pixel (N, 2) and depth (N,) of points (N, 3)."""
        local = (coord - self.position) @ self.rotation.T
        depth = np.maximum(local[:, 2], 1e-6)
        pixel = self.focal * local[:, :2] / depth[:, None]
        return pixel + (self.width / 2, self.height / 2), local[:, 2]


def look_at(
    coord: np.ndarray,
    azimuth: float = -60.0,
    elevation: float = 42.0,
    width: int = 720,
    height: int = 600,
    view_angle: float = 28.0,
    margin: float = 0.03,
) -> Camera:
    """Return the camera that sees a cloud whole.

    Args:
        coord: (N, 3) m, z up.
        azimuth, elevation: direction of the camera as seen from the cloud, degrees.
        width, height: of the picture, pixels.
        view_angle: horizontal angle of view, degrees: small is flat.
        margin: share of the picture left free at each side.
    """
    a, e = np.radians(azimuth), np.radians(elevation)
    back = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    right = np.array([-np.sin(a), np.cos(a), 0.0])
    rotation = np.stack([right, -np.cross(back, right), -back])
    focal = width / 2 / np.tan(np.radians(view_angle) / 2)
    low, high = np.quantile(coord, [0.001, 0.999], axis=0)
    corners = np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, -1).T
    target = (low + high) / 2
    local = (corners - target) @ rotation.T
    free = (1 - 2 * margin) / 2 / focal
    distance, shift = 0.0, np.zeros(2)
    for _ in range(8):  # centre what is seen, then step back until it fits
        local_shifted = local[:, :2] - shift
        need = np.abs(local_shifted) / (np.array([width, height]) * free) - local[:, 2:]
        distance = max(need.max(), 1e-3)
        seen = local_shifted / (local[:, 2:] + distance)
        shift = shift + (seen.min(0) + seen.max(0)) / 2 * distance
    position = target - rotation[2] * distance + shift @ rotation[:2]
    return Camera(position, rotation, focal, width, height)


def splat(
    camera: Camera,
    coord: np.ndarray,
    color: np.ndarray,
    radius: float = 0.012,
    eye_dome: float = 1.0,
    supersample: int = 2,
    onto: np.ndarray | None = None,
) -> np.ndarray:
    """Draw points as discs that hide what is behind them.

    Args:
        camera: from ``look_at``.
        coord: (N, 3) m.
        color: (N, 3), 0-255.
        radius: of a disc, m; at least 0.7 pixels are drawn.
        eye_dome: strength of the outlines at jumps of depth, 0 for none.
        supersample: sub-pixels a side, for smooth edges.
        onto: (height, width, 3) picture to draw on; white if None.

    Returns:
        (height, width, 3) uint8.
    """
    image, depth = _rasterise(camera, coord, color, radius, supersample)
    if eye_dome > 0:
        image = image * _eye_dome(depth, eye_dome, supersample)[..., None]
    empty = np.isinf(depth)
    image[empty] = 0
    blocks = (camera.height, supersample, camera.width, supersample)
    drawn = image.reshape(*blocks, 3).mean((1, 3))
    free = empty.reshape(blocks).mean((1, 3))[..., None]
    below = BACKGROUND if onto is None else onto.astype(np.float32)
    return np.clip(np.rint(drawn + free * below), 0, 255).astype(np.uint8)


def _rasterise(camera, coord, color, radius, supersample):
    """Return colours (H, W, 3) and depth (H, W), inf where nothing is."""
    width, height = camera.width * supersample, camera.height * supersample
    pixel, depth = camera.project(np.asarray(coord, np.float64))
    pixel = pixel * supersample
    size = np.maximum(
        camera.focal * supersample * radius / np.maximum(depth, 1e-6), 0.7 * supersample
    )
    visible = (depth > 0.02) & (pixel > -size[:, None]).all(1)
    visible &= (pixel < np.array([width, height]) + size[:, None]).all(1)
    pixel, depth, size = pixel[visible], depth[visible], size[visible]
    color = np.asarray(color, np.float32)[visible]
    size = np.minimum(size, 16 * supersample)
    buffer = np.full(height * width, np.inf, np.float32)
    owner = np.full(height * width, -1)
    reach = int(np.ceil(size.max())) if len(size) else 0
    column, row = np.floor(pixel).astype(int).T
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            x, y = column + dx, row + dy
            off = (x + 0.5 - pixel[:, 0]) ** 2 + (y + 0.5 - pixel[:, 1]) ** 2
            here = np.flatnonzero(
                (off <= size**2) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
            )
            if not len(here):
                continue
            place = y[here] * width + x[here]
            # a slight cone: where discs of one surface overlap, the nearer centre wins
            near = depth[here] * (1 + 1e-3 * off[here] / size[here] ** 2)
            near = near.astype(np.float32)
            closer = near < buffer[place]
            here, place, near = here[closer], place[closer], near[closer]
            np.minimum.at(buffer, place, near)
            won = near == buffer[place]
            owner[place[won]] = here[won]
    image = np.full((height * width, 3), BACKGROUND, np.float32)
    drawn = owner >= 0
    image[drawn] = color[owner[drawn]]
    return image.reshape(height, width, 3), buffer.reshape(height, width)


def _eye_dome(depth: np.ndarray, strength: float, step: int) -> np.ndarray:
    """Return the brightness (H, W): darker where neighbours are nearer.

    Eye-dome lighting, Boucheny 2009: log-depth differences in eight directions.
    """
    far = np.isinf(depth)
    log = np.log(np.where(far, 1.0, depth))
    log[far] = np.inf
    total = np.zeros(depth.shape, np.float32)
    for scale in (1, 3):
        reach = step * scale
        padded = np.pad(log, reach, constant_values=np.inf)
        for dy, dx in (
            (0, 1),
            (1, 0),
            (0, -1),
            (-1, 0),
            (1, 1),
            (1, -1),
            (-1, 1),
            (-1, -1),
        ):
            y, x = reach + dy * reach, reach + dx * reach
            other = padded[y : y + depth.shape[0], x : x + depth.shape[1]]
            with np.errstate(invalid="ignore"):
                rise = np.where(np.isinf(other) | far, 0, log - other)
            total += np.clip(rise, 0, 0.12) / scale
    return np.exp(-strength * 2.2 * total / 2)


def shading(normal: np.ndarray | None, camera: Camera) -> np.ndarray | float:
    """Return the brightness (N, 1) of surfaces lit from behind and above the camera."""
    if normal is None:
        return 1.0
    light = (
        -camera.rotation[2] + 0.9 * np.array([0, 0, 1.0]) - 0.35 * camera.rotation[0]
    )
    light /= np.linalg.norm(light)
    return (0.62 + 0.42 * np.abs(normal @ light))[:, None]


def instance_colors(
    instance: np.ndarray, coord: np.ndarray | None = None
) -> np.ndarray:
    """Return a colour (N, 3), 0-255, for each instance; grey for -1.

    Hues step by the golden angle and lightness alternates, so that numbers near each
    other differ. With ``coord``, instances that lie near each other differ too: each
    takes, largest first, the colour furthest from those of its neighbours.

    Args:
        instance: (N,) numbers, -1 for none.
        coord: (N, 3) m.
    """
    instance = np.asarray(instance)
    colors = np.tile(GREY, (len(instance), 1))
    ids, number, count = np.unique(
        instance[instance >= 0], return_inverse=True, return_counts=True
    )
    if not len(ids):
        return colors
    if coord is None:
        chosen = _palette(max(64, len(ids)))[: len(ids)]
    else:
        points = np.asarray(coord)[instance >= 0]
        centre = (
            np.stack([np.bincount(number, points[:, i]) for i in range(3)], 1)
            / count[:, None]
        )
        chosen = _contrasting(centre, count)
    colors[instance >= 0] = chosen[number]
    return colors


def _palette(count: int) -> np.ndarray:
    """Return colours (count, 3): hues by the golden angle, three lightnesses."""
    index = np.arange(count)
    hue = (index * 0.61803398875 + 0.58) % 1.0 * 6
    saturation = np.array([0.72, 0.85, 0.55])[index % 3]
    value = np.array([0.92, 0.68, 0.98])[index % 3]
    ramp = np.abs((hue[:, None] + np.array([0, 4, 2])) % 6 - 3) - 1
    rgb = 1 - saturation[:, None] * (1 - np.clip(ramp, 0, 1))
    return (255 * value[:, None] * rgb).astype(np.float32)


def _contrasting(centre: np.ndarray, count: np.ndarray) -> np.ndarray:
    palette = _palette(24)
    apart = np.linalg.norm(palette[:, None] - palette[None], axis=2)
    taken = np.full(len(centre), -1)
    used = np.zeros(len(palette))
    for one in np.lexsort((np.arange(len(count)), -count)):
        others = np.flatnonzero(taken >= 0)
        if len(others):
            gap = np.linalg.norm(centre[others] - centre[one], axis=1)
            near = others[np.argsort(gap, kind="stable")[:8]]
            score = apart[:, taken[near]].min(1) - 25 * used
        else:
            score = np.zeros(len(palette))
        taken[one] = score.argmax()
        used[taken[one]] += 1
    return palette[taken]


def direction_colors(vector: np.ndarray) -> np.ndarray:
    """Return a colour (N, 3), 0-255: hue from the heading, lighter upwards."""
    length = np.maximum(np.linalg.norm(vector, axis=1, keepdims=True), 1e-9)
    unit = vector / length
    hue = np.arctan2(unit[:, 1], unit[:, 0]) / (2 * np.pi) % 1.0 * 6
    ramp = np.clip(np.abs((hue[:, None] + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    value = 0.72 + 0.2 * unit[:, 2:]
    return (255 * value * (1 - 0.85 * (1 - ramp))).astype(np.float32)


def cut_away(coord: np.ndarray, normal: np.ndarray, camera: Camera) -> np.ndarray:
    """Return (N,) bool: points to draw so that a room's inside is seen.

    Scanned surfaces face the scanner, so a back seen from outside belongs to a wall
    (or to furniture at it) between the camera and the room. Such backs are left out,
    what stands upright among them too (frames of windows), and level surfaces that
    hang over the room (a ceiling).

    Args:
        coord, normal: (N, 3), normals facing the inside.
    """
    back = ((coord - camera.position) * normal).sum(1) > 0
    upright = np.abs(normal[:, 2]) < 0.6
    edge = _near_outside(coord) & upright
    cell = np.floor((coord[:, :2] - coord[:, :2].min(0)) / 0.1).astype(int)
    shape = cell.max(0) + 1
    flat = cell[:, 0] * shape[1] + cell[:, 1]
    backs = np.bincount(flat[edge & back], minlength=shape.prod()).reshape(shape)
    all_ = np.bincount(flat[edge], minlength=shape.prod()).reshape(shape)
    backs, all_ = (_grow(counts, 3, add=True) for counts in (backs, all_))
    outer = (backs > 0.5 * all_).reshape(-1)[flat]
    hanging = (normal[:, 2] < -0.8) & (
        coord[:, 2] > np.quantile(coord[:, 2], 0.995) - 0.3
    )
    return ~(edge & (back | outer)) & ~hanging


def _near_outside(
    coord: np.ndarray, cell: float = 0.1, reach: float = 0.3
) -> np.ndarray:
    """Return (N,): is a point within ``reach`` metres of the outside, from above."""
    pad = int(np.ceil(reach / cell)) + 3
    place = np.floor((coord[:, :2] - coord[:, :2].min(0)) / cell).astype(int) + pad
    filled = np.zeros(place.max(0) + 1 + pad, bool)
    filled[place[:, 0], place[:, 1]] = True
    filled = ~_grow(~_grow(filled, 2), 2)  # small gaps of the floor are no outside
    outside = np.zeros_like(filled)
    outside[0] = outside[-1] = outside[:, 0] = outside[:, -1] = True
    count = 0
    while outside.sum() > count:  # flood from the border
        count = outside.sum()
        outside = _grow(outside, 1) & ~filled
    near = _grow(outside, pad - 3)
    return near[place[:, 0], place[:, 1]]


def _grow(grid: np.ndarray, steps: int, add: bool = False) -> np.ndarray:
    """Widen what is set by some cells, or, with ``add``, sum over neighbours."""
    for _ in range(steps):
        wider = grid.copy()
        for to, of in (
            (np.s_[1:], np.s_[:-1]),
            (np.s_[:-1], np.s_[1:]),
            (np.s_[:, 1:], np.s_[:, :-1]),
            (np.s_[:, :-1], np.s_[:, 1:]),
        ):
            if add:
                wider[to] += grid[of]
            else:
                wider[to] |= grid[of]
        grid = wider
    return grid


def point_radius(coord: np.ndarray) -> float:
    """Return a disc radius, m, that closes most gaps of a cloud's surfaces."""
    if len(coord) < 8:
        return 0.01
    step = max(1, len(coord) // 4000)
    distance, _ = cKDTree(coord).query(coord[::step], k=5)
    return float(max(0.7 * np.median(distance[:, 4]), 1e-4))


def best_azimuth(
    coord: np.ndarray, normal: np.ndarray | None = None, elevation: float = 42.0
) -> float:
    """Return the direction, degrees, from which a cloud shows most.

    With normals, that is where most points face the camera. Without, it is where the
    points cover the largest area: a partial scan hides its own shadows from where it
    was taken.

    Args:
        coord: (N, 3) m.
        normal: (N, 3), facing the scanner.
        elevation: of the camera, degrees.
    """
    azimuths = np.arange(-60.0, 300.0, 30.0)
    cell = 2 * point_radius(coord)
    shown = []
    for azimuth in azimuths:
        camera = look_at(coord, azimuth, elevation)
        if normal is not None:
            shown.append((normal @ -camera.rotation[2] > 0.1).sum())
            continue
        flat = np.floor(coord @ camera.rotation[:2].T / cell).astype(np.int64)
        flat -= flat.min(0)
        key = flat[:, 0] * (flat[:, 1].max() + 1) + flat[:, 1]
        shown.append(len(np.unique(key)))
    return float(azimuths[int(np.argmax(shown))])


def save_curves(
    path: str | Path,
    panels: Sequence[
        tuple[str, str, Sequence[tuple[str, Sequence[float], Sequence[float]]]]
    ],
) -> Path:
    """Draw lines in panels side by side, as one PNG that is never left half-written.

    Args:
        path: file to write; its folder is made.
        panels: title, what the horizontal axis is, and lines: label, x and y.

    Returns:
        The path.

    Raises:
        UserError: no matplotlib, or a file that cannot be written.
    """
    _, canvas, figure_class, _ = _matplotlib()
    figure = figure_class(figsize=(5.5 * len(panels), 4), dpi=100)
    canvas(figure)
    for column, (title, unit, lines) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), column)
        for label, x, y in lines:
            axes.plot(x, y, label=label, linewidth=1.5, marker=".", markersize=4)
        axes.set_title(title)
        axes.set_xlabel(unit)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.tight_layout()
    return _save(figure, path)


def save_dots(
    path: str | Path,
    rows: Sequence[Sequence[tuple[str, Sequence[tuple[str, Sequence[float]]]]]],
    reference: str | None = None,
    marked: Collection[str] = (),
) -> Path:
    """Draw values as dots beside their labels, as one PNG never left half-written.

    A dot is a value, a short line their mean; a dashed line goes through the mean of
    the reference.

    Args:
        path: file to write; its folder is made.
        rows: of panels side by side, a title and lines each: label and values. The
            panels of a row share their labels.
        reference: label whose mean is drawn through a panel.
        marked: labels drawn in colour.

    Returns:
        The path.

    Raises:
        UserError: no matplotlib, or a file that cannot be written.
    """
    _, canvas, figure_class, _ = _matplotlib()
    widest = max(len(row) for row in rows)
    heights = [max(len(lines) for _, lines in row) for row in rows]
    size = (2.2 + 2.5 * widest, sum(0.22 * n + 0.75 for n in heights))
    figure = figure_class(figsize=size, dpi=110, layout="constrained")
    canvas(figure)
    grid = figure.add_gridspec(len(rows), widest, height_ratios=heights)
    for down, row in enumerate(rows):
        for across, (title, lines) in enumerate(row):
            axes = figure.add_subplot(grid[down, across])
            for place, (label, values) in enumerate(lines):
                colour = "tab:red" if label in marked else "0.35"
                known = [value for value in values if np.isfinite(value)]
                if not known:
                    continue
                mean = float(np.mean(known))
                axes.plot(known, [place] * len(known), "o", color=colour, ms=4, mew=0)
                axes.plot([mean, mean], [place - 0.35, place + 0.35], color=colour)
                if label == reference:
                    axes.axvline(mean, color="0.6", linestyle="--", linewidth=0.8)
            axes.set_ylim(len(lines) - 0.4, -0.6)
            axes.set_yticks(range(len(lines)))
            axes.set_yticklabels([n for n, _ in lines] if across == 0 else [])
            axes.tick_params(labelsize=8, length=2)
            axes.set_title(title, fontsize=9)
            axes.grid(alpha=0.25)
            axes.set_axisbelow(True)
    return _save(figure, path)


def _matplotlib():
    """Return matplotlib, set to draw without a display."""
    try:
        import matplotlib
        from matplotlib.backends import backend_agg
        from matplotlib.collections import LineCollection
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError(
            "pictures need matplotlib, which is not installed; run "
            'pip install "pointins[demo]"'
        ) from None
    return matplotlib, backend_agg.FigureCanvasAgg, Figure, LineCollection


def draw_cloud(
    ax,
    coord: np.ndarray,
    color: np.ndarray,
    camera: Camera | None = None,
    normal: np.ndarray | None = None,
    radius: float | None = None,
    onto: np.ndarray | None = None,
    eye_dome: float = 1.0,
) -> np.ndarray:
    """Draw a cloud on matplotlib axes.

    Args:
        ax: axes; its frame is hidden.
        coord: (N, 3) m.
        color: (N, 3), 0-255.
        camera: from ``look_at``; by default it sees the cloud whole.
        normal: (N, 3), for shading.
        radius: of a point, m; by default gaps close.
        onto, eye_dome: as in ``splat``.

    Returns:
        The picture (height, width, 3) uint8.
    """
    camera = look_at(coord) if camera is None else camera
    radius = point_radius(coord) if radius is None else radius
    color = np.asarray(color) * shading(normal, camera)
    image = splat(camera, coord, color, radius, eye_dome, onto=onto)
    ax.imshow(image, interpolation="none")
    ax.set_xlim(-0.5, camera.width - 0.5)
    ax.set_ylim(camera.height - 0.5, -0.5)
    ax.set_axis_off()
    return image


def draw_arrows(
    ax,
    camera: Camera,
    coord: np.ndarray,
    shift: np.ndarray,
    count: int = 1500,
    seed: int = 0,
) -> None:
    """Draw vectors as arrows, coloured by direction, the furthest first.

    Args:
        ax: axes that show the camera's picture.
        coord, shift: (N, 3) m; a random ``count`` of them is drawn.
        seed: of that choice.
    """
    _, _, _, line_collection = _matplotlib()
    if not len(coord):
        return
    some = np.random.default_rng(seed).permutation(len(coord))[:count]
    coord, shift = np.asarray(coord)[some], np.asarray(shift)[some]
    start, depth = camera.project(coord)
    end, tip_depth = camera.project(coord + shift)
    front = np.flatnonzero((depth > 0.05) & (tip_depth > 0.05))
    front = front[np.argsort(-depth[front], kind="stable")]
    start, end = start[front], end[front]
    color = direction_colors(shift[front]) / 255
    along = end - start
    length = np.maximum(np.hypot(*along.T), 1e-9)[:, None]
    along = along / length
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    head = np.minimum(0.35 * length, 7.0)
    barbs = [end - head * along + side * 0.45 * head * across for side in (-1, 1)]
    segments = np.stack([start, end], 1)
    points = np.stack([barbs[0], end, barbs[1]], 1)
    ax.add_collection(line_collection(segments, colors=color, linewidths=0.55))
    ax.add_collection(line_collection(points, colors=color, linewidths=0.55))


def faded(color: np.ndarray, share: float = 0.75) -> np.ndarray:
    """Return colours (N, 3) drawn towards light grey, as a backdrop."""
    grey = np.asarray(color, np.float32).mean(1, keepdims=True)
    return (1 - share) * grey + share * 238.0


def save_panels(
    path: str | Path,
    scene: Mapping[str, np.ndarray],
    shift: np.ndarray | None = None,
    instances: np.ndarray | None = None,
    gt: np.ndarray | None = None,
    extra: Sequence[tuple[str, np.ndarray]] | None = None,
    titles: Mapping[str, str] | None = None,
    azimuth: float | None = None,
    elevation: float = 42.0,
    size: tuple[int, int] = (640, 560),
    arrows: int = 1500,
) -> Path:
    """Draw a scene and what is predicted of it side by side, as one wide PNG.

    The panels, each left out where its data is None: input, predicted offsets,
    shifted centres coloured by instance, instances, ``extra``, ground truth.

    Args:
        path: file to write; its folder is made. Never left half-written.
        scene: ``coord`` (N, 3) m, z up; ``color`` (N, 3), 0-255, and ``normal`` (N, 3)
            if there are. Rooms whose normals are given are cut open.
        shift: (N, 3) m, from each point to its instance's centre.
        instances: (N,) predicted instance numbers, -1 for none.
        gt: (N,) true instance numbers, -1 for none.
        extra: further panels: title, and instance numbers (N,) or colours (N, 3).
        titles: other titles, by "input", "offsets", "centres", "instances", "truth".
        azimuth, elevation: of the camera, degrees; by default it faces the fronts.
        size: of a panel, pixels.
        arrows: number drawn.

    Returns:
        The path.

    Raises:
        UserError: an array of another length, no matplotlib, or a file that cannot be
            written.
    """
    _, canvas, figure_class, _ = _matplotlib()
    coord = np.asarray(scene["coord"], np.float64)
    named = [("shift", shift), ("instances", instances), ("gt", gt), *(extra or [])]
    for name, values in named:
        if values is not None and len(values) != len(coord):
            raise UserError(
                f"{name} has {len(values)} rows, but the scene {len(coord)} points; "
                "give one a point"
            )
    if not len(coord):
        raise UserError("a scene without points has no picture")
    words = {
        "input": "input",
        "offsets": "predicted offsets",
        "centres": "shifted centres",
        "instances": "instances",
        "truth": "ground truth",
        **(titles or {}),
    }
    normal = scene.get("normal")
    if azimuth is None:
        azimuth = best_azimuth(coord, normal, elevation)
    camera = look_at(coord, azimuth, elevation, *size)
    keep = np.ones(len(coord), bool)
    if normal is not None and np.ptp(coord[:, 2]) > 1.2:
        keep = cut_away(coord, normal, camera)
    color = scene.get("color")
    color = np.tile(GREY, (len(coord), 1)) if color is None else np.asarray(color)
    radius = point_radius(coord)

    panels = [words["input"]]
    panels += [words["offsets"]] if shift is not None else []
    centres = shift is not None and instances is not None
    panels += [words["centres"]] if centres else []
    panels += [words["instances"]] if instances is not None else []
    panels += [title for title, _ in extra or []]
    panels += [words["truth"]] if gt is not None else []
    dpi, band = 100, 46
    figure = figure_class(
        figsize=(size[0] * len(panels) / dpi, (size[1] + band) / dpi), dpi=dpi
    )
    canvas(figure)
    figure.set_facecolor("white")
    axes = []
    for i, title in enumerate(panels):
        part = (i / len(panels), 0, 1 / len(panels), size[1] / (size[1] + band))
        ax = figure.add_axes(part)
        ax.set_title(title, fontsize=17, color="#222222", pad=8)
        axes.append(ax)
    remaining = iter(axes)

    def cloud(ax, paint, **options):
        part = None if normal is None else normal[keep]
        options = {"normal": part, "radius": radius, **options}
        return draw_cloud(ax, coord[keep], paint[keep], camera, **options)

    def numbered(values):
        return instance_colors(values, coord)

    cloud(next(remaining), color)
    thing = keep
    for values in (gt, instances):
        if values is not None:
            thing = keep & (np.asarray(values) >= 0)
    if shift is not None:
        shift = np.asarray(shift, np.float64)
        ax = next(remaining)
        cloud(ax, faded(color))
        draw_arrows(ax, camera, coord[thing], shift[thing], arrows)
    if centres:
        ax = next(remaining)
        backdrop = cloud(ax, faded(color, 0.85))
        ax.images[0].remove()
        draw_cloud(
            ax,
            (coord + shift)[thing],
            numbered(instances)[thing],
            camera,
            radius=0.5 * radius,
            onto=backdrop,
            eye_dome=0.5,
        )
    if instances is not None:
        cloud(next(remaining), numbered(instances))
    for _, values in extra or []:
        values = np.asarray(values)
        cloud(next(remaining), values if values.ndim == 2 else numbered(values))
    if gt is not None:
        cloud(next(remaining), numbered(gt))
    return _save(figure, path)


def _save(figure, path: str | Path) -> Path:
    # no version and no date in the file: equal pictures are equal files
    options = {"format": "png", "metadata": {"Software": None}}
    return write_whole(path, lambda partial: figure.savefig(partial, **options))
