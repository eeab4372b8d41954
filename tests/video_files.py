"""Small video files whose frames say their own number: eight black or white blocks on top spell it in binary."""

from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT = 128, 96


def numbered_frames(count: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(count, height, width, 3) uint8; block b of the top quarter is white where bit b of the frame's number is set.

    Below drifts a texture, so that encoders predict frames from each other as they do on natural pictures.
    """
    y, x = np.mgrid[:height, :width].astype(float)
    drift = np.arange(count)[:, None, None] * 1.5
    grey = 120 + 40 * np.sin((x + drift) / 7) * np.cos(y / 5) + 30 * np.sin((x + 2 * y + drift) / 3)
    bits = (np.arange(count)[:, None] >> np.arange(8)) & 1
    grey[:, : height // 4] = np.repeat(bits * 200 + 30, width // 8, axis=1)[:, None]
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def numbers(frames: np.ndarray) -> list[int]:
    """The numbers that frames (T, H, W, 3) spell; 0 to 255."""
    top = frames[:, : frames.shape[1] // 4].mean(axis=(1, 3))  # (T, W)
    blocks = top.reshape(len(frames), 8, -1).mean(-1)
    return [int(sum(1 << bit for bit in range(8) if row[bit] > 130)) for row in blocks]


def write_video(
    path: Path,
    frames: np.ndarray,
    codec: str = "libx264",
    gop: int = 12,
    b_frames: int | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    stored_order: bool = False,
    blank_from: int | None = None,
) -> Path:
    """Encode uint8 (T, H, W, 3).

    `stored_order`: store decoding times in the place of presentation times. `blank_from`: packets from this one on are
    MPEG-2 user data and show nothing.
    """
    quiet = {"libx265": {"x265-params": "log-level=none:pools=1"}}.get(codec, {})
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=25, options={**quiet, **(options or {})})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.thread_count, stream.bit_rate = gop, 1, 1_000_000
        if b_frames is not None:
            stream.codec_context.max_b_frames = b_frames
        pictures = [av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in frames]
        packets = [packet for picture in [*pictures, None] for packet in stream.encode(picture)]
        for number, packet in enumerate(packets):
            if stored_order:
                packet.pts = packet.dts
            if blank_from is not None and number >= blank_from:
                empty = av.Packet(b"\x00\x00\x01\xb2nothing to show")
                empty.stream, empty.pts, empty.dts, empty.time_base = stream, packet.pts, packet.dts, packet.time_base
                packet = empty
            file.mux(packet)
    return path


FILES = {  # the cases in which decoders are known to hand out other frames than asked for
    "closed groups": ("a.mp4", {"gop": 12}),
    "one group": ("a.mp4", {"gop": 250}),
    "open groups": ("a.mp4", {"gop": 12, "options": {"x264-params": "open-gop=1"}}),
    "open groups, mkv": ("a.mkv", {"gop": 12, "options": {"x264-params": "open-gop=1"}}),
    "HEVC": ("a.mp4", {"codec": "libx265", "gop": 12, "options": {"preset": "ultrafast"}}),
    "short HEVC groups": ("a.mp4", {"codec": "libx265", "gop": 2, "options": {"preset": "ultrafast"}}),
    "MPEG-4": ("a.mp4", {"codec": "mpeg4"}),
    "MPEG-4 with B": ("a.mp4", {"codec": "mpeg4", "b_frames": 2}),
    "AVI": ("a.avi", {"codec": "mpeg4"}),
    "AVI with B": ("a.avi", {"codec": "mpeg4", "b_frames": 2}),
    "H.264 in AVI": ("a.avi", {"gop": 12, "b_frames": 2}),
    "VP9": ("a.webm", {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}}),
    "transport stream": ("a.ts", {"codec": "mpeg2video", "b_frames": 2}),
    "program stream": ("a.mpg", {"codec": "mpeg1video", "b_frames": 2}),
    "wrong times": ("a.mkv", {"codec": "mpeg4", "b_frames": 2, "stored_order": True}),
}
