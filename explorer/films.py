"""The preview of a film, found by seeking, so that at most a few frames are decoded."""

from contextlib import suppress
from pathlib import Path

from PIL import Image

from cma.media import is_animation, open_media

DECODED = 2**23  # pixels that are decoded at most to show the frame that was asked for


def glimpse(
    path: Path, at: float | None, start: float | None, end: float | None
) -> Image.Image | None:
    """Return a frame of a video near the time `at` (seconds; by default the middle of a part).

    It is the frame at that time if `DECODED` allows it; otherwise it is the nearest key frame, and
    no other frame is decoded. None if seeking finds no frame, or if the clip is no video file.
    """
    if is_animation(path):  # it has no key frames
        return None
    with suppress(Exception):
        import av
        from av.video.reformatter import VideoReformatter

        with open_media(path) as stream, av.open(stream, "r") as container:
            video = container.streams.video[0]
            unit, begin = float(video.time_base or 1), video.start_time or 0
            if at is None:
                at = ((start or 0.0) + (end or (container.duration or 0) / av.time_base)) / 2
            wanted, keys = begin + round(at / unit), []
            for backward in (False, True):
                with suppress(av.FFmpegError, StopIteration):  # e.g. no key frame follows
                    container.seek(wanted, stream=video, backward=backward)
                    packets = container.demux(video)
                    keys.append(next(one for one in packets if one.is_keyframe and one.size))
            each = 1 / float(video.average_rate or 25) / unit  # a frame, in units of the stream
            steps = (wanted - (keys[-1].pts or 0)) / each
            if 0 <= steps * video.width * video.height <= DECODED:
                container.seek(wanted, stream=video)
                frames = container.decode(video)
                shown = next(one for one in frames if (one.pts or 0) >= wanted - each / 2)
            else:
                nearest = min(keys, key=lambda key: abs((key.pts or 0) - wanted))
                shown = (nearest.decode() or video.codec_context.decode(None))[0]
            # its own, since PyAV's would stay with this thread, and then hang a forked process
            rgb = VideoReformatter().reformat(shown, format="rgb24")
            return Image.fromarray(rgb.to_ndarray()).rotate(shown.rotation, expand=True)
    return None
