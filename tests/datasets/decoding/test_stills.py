"""Still images as they are shown: upright, in 8 bits, or refused with the reason."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from mote.datasets.decoding.decode import read_frames
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.decoding.stills import read_still
from mote.datasets.images import BadImageError, read_image

RAMP = np.tile(np.arange(256), (4, 1))


def stored(image, suffix, **options):
    file = io.BytesIO()
    image.save(file, suffix, **options)
    file.seek(0)
    return file


def tiff(values, bits=16, photometric=1, sample_format=1):
    """A little-endian grey TIFF of one row, of bytes as given."""
    entries = [(256, len(values) * 8 // bits), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 0), (277, 1)]
    entries += [(278, 1), (279, len(values)), (339, sample_format)]
    start = 8 + 2 + 12 * len(entries) + 4
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in entries)
    return io.BytesIO(struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + tags + bytes(4) + values)


@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_all_eight_orientations_are_as_a_viewer_shows_them(suffix, mode, tmp_path):
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8], pixels[:, :8] = (200, 60, 10), (90, 90, 220)
    turns = [lambda x: x, np.fliplr, lambda x: np.rot90(x, 2), np.flipud, lambda x: x.swapaxes(0, 1)]
    turns += [lambda x: np.rot90(x, -1), lambda x: np.rot90(x, 2).swapaxes(0, 1), lambda x: np.rot90(x, 1)]
    image = Image.fromarray(pixels).convert(mode)
    plain = np.asarray(Image.open(stored(image, suffix, quality=95)).convert("RGB"))
    for orientation, turn in enumerate(turns, 1):
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = stored(image, suffix, quality=95, exif=exif)
        assert np.array_equal(read_still(file), turn(plain)), orientation
    (tmp_path / "1.jpg").write_bytes(file.getvalue())  # 8: the last
    assert np.array_equal(read_frames(tmp_path, [0])[0], turn(plain))
    assert np.array_equal(read_image(tmp_path / "1.jpg"), turn(plain))
    assert np.array_equal(read_frames(tmp_path / "1.jpg", [0])[0], turn(plain))  # listed as a video: a clip of one


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_an_orientation_that_cannot_be_read_says_nothing():
    exif = Image.Exif()
    exif[0x0112] = 9
    for broken in (exif.tobytes(), b"Exif\0\0no such thing", b"Exif\0\0II*\0\xff\xff\xff\xff"):
        assert read_still(stored(Image.new("RGB", (6, 4)), "JPEG", exif=broken)).shape == (4, 6, 3)


@pytest.mark.filterwarnings("error")
def test_16_bits_are_scaled_by_their_range():
    for factor in (256, 257):
        image = Image.fromarray((RAMP * factor).astype("<u2"))
        swapped = Image.frombytes("I;16B", image.size, (RAMP * factor).astype(">u2").tobytes())
        files = [stored(image, "PNG"), stored(image, "TIFF"), stored(swapped, "TIFF")]
        files.append(io.BytesIO(b"P5 256 4 65535\n" + (RAMP * factor).astype(">u2").tobytes()))
        for file in files:
            assert np.array_equal(read_still(file, 1)[..., 0], RAMP)
            assert np.array_equal(read_still(file), np.repeat(RAMP[..., None], 3, 2))
    colours = (np.stack([RAMP, RAMP[:, ::-1], RAMP], -1) * 257).astype(">u2")
    assert np.array_equal(read_still(io.BytesIO(b"P6 256 4 65535\n" + colours.tobytes())), colours >> 8)
    values = np.array([0, 256, 25600, 65535], "<u2")
    assert read_still(tiff(values.tobytes()), 1).ravel().tolist() == [0, 1, 100, 255]
    assert read_still(tiff(values.tobytes(), photometric=0), 1).ravel().tolist() == [255, 254, 155, 0]  # white is 0
    assert read_still(tiff(bytes([0xFF, 0xF8, 0x00])[:3], bits=12), 1).ravel().tolist() == [255, 128]


def test_values_of_unknown_range_are_refused_by_name():
    for image, kind in ((RAMP / 255, "floats"), (RAMP.astype(float), "floats")):
        with pytest.raises(ValueError, match=f"its pixels are {kind}, whose range is not known; convert it to 8 or 16"):
            read_still(stored(Image.fromarray(image.astype("float32")), "TIFF"))
    with pytest.raises(ValueError, match="signed integers"):
        read_still(stored(Image.fromarray(RAMP.astype("int32")), "TIFF"))
    with pytest.raises(ValueError, match="signed integers"):
        read_still(tiff(bytes([0, 1, 127, 255]), bits=8, sample_format=2))


@pytest.mark.filterwarnings("error")
def test_other_modes_are_those_of_pillow():
    palette = Image.fromarray(RAMP.astype("uint8")).convert("P")
    assert np.array_equal(read_still(stored(palette, "PNG", transparency=bytes(256)))[..., 0], RAMP)
    for mode, suffix in (("CMYK", "JPEG"), ("CMYK", "TIFF"), ("LA", "PNG"), ("1", "PNG"), ("RGBA", "WEBP")):
        image = Image.new("RGB", (8, 8), (200, 30, 90)).convert(mode)
        expected = np.asarray(Image.open(stored(image, suffix)).convert("RGB"))
        assert np.array_equal(read_still(stored(image, suffix)), expected)


@pytest.mark.parametrize("suffix", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_images_are_no_still(suffix, tmp_path):
    images = [Image.new("RGB", (8, 8), (value, 0, 0)) for value in (10, 100, 200)]
    file = stored(images[0], suffix, save_all=True, append_images=images[1:])
    with pytest.raises(ValueError, match="it holds 3 images; give it as a video, or each of them as a file"):
        read_still(file)
    assert read_still(stored(images[0], suffix)).shape == (8, 8, 3)
    (tmp_path / "1.jpg").write_bytes(file.getvalue())
    with pytest.raises(DecodeError, match=r"by pillow: 1\.jpg: it holds 3 images"):
        read_frames(tmp_path, [0])


def test_odd_files(real_data, tmp_path):
    odd = real_data / "odd_inputs"
    for number in (1, 3, 6):
        shown = ImageOps.exif_transpose(Image.open(odd / f"exif{number}.jpg"))
        assert np.array_equal(read_image(odd / f"exif{number}.jpg"), np.asarray(shown))
    assert len(np.unique(read_image(odd / "g16.png", 1))) == 256
    with pytest.raises(BadImageError, match=r"f32\.tif: cannot be read as an image: its pixels are floats"):
        read_image(odd / "f32.tif")
