"""Random views of drawings for pre-training: one RGBA drawing becomes many opaque pictures.

The bundled CLIP is trained on flat vector drawings and then used on shaded 3-D renderings by
another artist. Each view therefore moves, turns, shades, recolours and blurs the drawing and puts
it on a random background. Nothing is mirrored, because a "left arrow" must stay one.
"""

import math

import torch
import torch.nn.functional as F


def _uniform(
    shape: tuple[int, ...], low: float, high: float, generator: torch.Generator
) -> torch.Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def _ramp(count: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """A linear ramp from -1 to 1 across the picture in a random direction, [B, 1, size, size]."""
    angle = _uniform((count, 1, 1), 0, 2 * math.pi, generator)
    axis = torch.linspace(-1, 1, size)
    return (angle.cos() * axis + angle.sin() * axis[:, None])[:, None]


def recolour(rgba: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Give each RGBA drawing [B, 4, H, W] (0…1) one random colour; alpha stays as it is."""
    colours = torch.rand((len(rgba), 3, 1, 1), generator=generator)
    return torch.cat([colours.expand(-1, -1, *rgba.shape[2:]), rgba[:, 3:]], dim=1)


def views(
    rgba: torch.Tensor,
    size: int,
    generator: torch.Generator,
    scale: tuple[float, float] = (0.95, 1.5),
) -> torch.Tensor:
    """Return random views of RGBA drawings [B, 4, H, W] (0…1): moved, turned, tinted, shaded, with
    a gloss.

    scale: lowest and highest; above 1 the drawing is smaller. Returns RGBA [B, 4, size, size], with
    colours multiplied by alpha.
    """
    count = len(rgba)
    premultiplied = torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], dim=1)  # for clean edges
    factor = _uniform((count,), *scale, generator)
    turn = torch.randn(count, generator=generator) * 0.15
    shift = (torch.rand((count, 2), generator=generator) - 0.5) * (scale[1] - 1) / 2
    stretch = _uniform((count,), 0.9, 1.1, generator)
    cos, sin = turn.cos() * factor, turn.sin() * factor
    matrix = torch.stack([cos * stretch, -sin, shift[:, 0], sin, cos / stretch, shift[:, 1]], dim=1)
    grid = F.affine_grid(matrix.view(count, 2, 3), (count, 4, size, size), align_corners=False)
    view = F.grid_sample(
        premultiplied, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    colour, alpha = view[:, :3], view[:, 3:]
    tint = _uniform((count, 3, 1, 1), 0.8, 1.2, generator)
    shade = 1 + _ramp(count, size, generator) * _uniform((count, 1, 1, 1), 0, 0.35, generator)
    colour = (colour * tint * shade).clamp(0, 1)
    centre = _uniform((count, 2, 1, 1), -0.6, 0.6, generator)
    axis = torch.linspace(-1, 1, size)
    distance = (axis[None, None] - centre[:, :1]) ** 2 + (axis[None, :, None] - centre[:, 1:]) ** 2
    gloss = torch.exp(-distance / 0.15) * _uniform((count, 1, 1, 1), 0, 0.4, generator)
    colour = colour + gloss * (alpha - colour).clamp(min=0)
    return torch.cat([colour, alpha], dim=1)


def develop(picture: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Give pictures [B, 3, H, W] (0…1) random contrast, brightness, saturation and blur."""
    count = len(picture)
    mean = picture.mean(dim=(1, 2, 3), keepdim=True)
    picture = mean + (picture - mean) * _uniform((count, 1, 1, 1), 0.7, 1.2, generator)
    picture = picture + _uniform((count, 1, 1, 1), -0.1, 0.1, generator)
    grey = picture.mean(dim=1, keepdim=True)
    picture = grey + (picture - grey) * _uniform((count, 1, 1, 1), 0.5, 1.3, generator)
    blurred = F.avg_pool2d(F.pad(picture, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    blur = torch.rand((count, 1, 1, 1), generator=generator)
    return (picture + (blurred - picture) * torch.where(blur < 0.5, 2 * blur, 0.0)).clamp(0, 1)


def augment(rgba: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    """Return opaque random views RGB [B, 3, size, size] (0…1) of drawings RGBA [B, 4, H, W]."""
    count = len(rgba)
    view = views(rgba, size, generator)
    plain = torch.rand((count, 1, 1, 1), generator=generator) < 0.5
    background = torch.where(plain, 1.0, torch.rand((count, 3, 1, 1), generator=generator))
    background = background + 0.15 * _ramp(count, size, generator) * (~plain)
    return develop(view[:, :3] + (1 - view[:, 3:]) * background, generator)
