"""Sounds whose headers, pages or tracks lie, or that are of kinds nobody reads: bytes by file name, with a part of what is said."""

import importlib.util
import io
import struct

import numpy as np

from tests.audio.joined import encoded, speechlike, vbr_mp3

RATE_HZ = 16_000
UNKNOWN = struct.pack("<I", 2**32 - 1)
GUID = b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
"""What WAVE_FORMAT_EXTENSIBLE puts after the number of a format."""


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a RIFF file."""
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def riff(*chunks: bytes, mark: bytes = b"RIFF", size: bytes | None = None) -> bytes:
    """A wav of these chunks."""
    body = b"WAVE" + b"".join(chunks)
    return mark + (size or struct.pack("<I", len(body))) + body


def form(
    tag: int = 1, channels: int = 1, bits: int = 16, align: int | None = None, more: bytes = b""
) -> bytes:
    """The chunk that says what the samples are."""
    align = channels * bits // 8 if align is None else align
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, RATE_HZ, RATE_HZ * align, align, bits) + more)


def extensible(sub: int, bits: int, valid: int, channels: int = 1) -> bytes:
    """The same in the extensible form."""
    return form(0xFFFE, channels, bits, more=struct.pack("<HHIH", 22, valid, 0, sub) + GUID)


def tone() -> np.ndarray:
    """A second, float64."""
    return 0.3 * np.sin(2 * np.pi * 220 * np.arange(RATE_HZ) / RATE_HZ)


PCM = (tone() * 32767).astype("<i2").tobytes()


def readable_wavs() -> dict[str, bytes]:
    """Unusual ways to write the same tone, all of which are read."""
    whole = np.round(tone() * (2**31 - 1)).astype("<i4")
    return {
        "24 bits in 32": riff(extensible(1, 32, 24), chunk(b"data", (whole >> 8 << 8).tobytes())),
        "more bits than there are": riff(extensible(1, 32, 77), chunk(b"data", whole.tobytes())),
        "float64": riff(extensible(3, 64, 64), chunk(b"data", tone().astype("<f8").tobytes())),
        "four channels": riff(extensible(1, 16, 16, 4), chunk(b"data", np.repeat(np.frombuffer(PCM, "<i2"), 4).tobytes())),
        "an alignment of nothing": riff(form(align=0), chunk(b"data", PCM)),
        "1,500 other chunks": riff(form(), *[chunk(b"junk", b"ab")] * 999, chunk(b"data", PCM)),
        "a list of marks without end": riff(form(), chunk(b"cue ", struct.pack("<I", 2**31) + bytes(24)), chunk(b"data", PCM)),
        "RF64": rf64(len(PCM)),
        "AIFF-C, the other end first": aifc(b"sowt", PCM),
        "AIFF-C, float64": aifc(b"fl64", tone().astype(">f8").tobytes(), 64),
        "mp3 after a hundred tags": (b"ID3\4\0\0\0\0\0\n" + bytes(10)) * 100 + encoded(tone(), "MP3"),
        "mp3 with a tag that lies at its end": encoded(tone(), "MP3") + b"APETAGEX" + struct.pack("<IIII", 2000, 2**31, 1, 0) + bytes(8),
        "Opus that begins after ten hours": _paged("OPUS", _late),
    }  # fmt: skip


def rf64(promised: int, mark: bytes = b"RF64") -> bytes:
    """A wav with lengths of 64 bits."""
    lengths = chunk(b"ds64", struct.pack("<QQQI", 2**40, promised, promised // 2, 0))
    return riff(lengths, form(), b"data" + UNKNOWN + PCM, mark=mark, size=UNKNOWN)


def aifc(kind: bytes, data: bytes, bits: int = 16) -> bytes:
    """An AIFF-C of a second."""
    common = struct.pack(">hIh", 1, RATE_HZ, bits) + b"\x40\x0c\xfa" + bytes(7) + kind + b"\0\0"
    sound = struct.pack(">III", len(data) + 8, 0, 0) + data
    body = b"AIFC" + b"COMM" + struct.pack(">I", len(common)) + common + b"SSND" + sound
    return b"FORM" + struct.pack(">I", len(body)) + body


def odd_sounds() -> dict[str, tuple[bytes, str]]:
    """Content of each bad file, and what its quarantine says."""
    data = chunk(b"data", PCM)
    found = {
        "no-channels.wav": (riff(form(channels=0, align=2), data), "Channel count is zero"),
        "no-bits.wav": (riff(form(bits=0, align=2), data), "unimplemented"),
        "sound-first.wav": (riff(data, form()), "cannot be decoded"),
        "two-forms.wav": (riff(form(), form(channels=2), data), "cannot be decoded"),
        "two-sounds.wav": (riff(form(), data, data), "cannot be decoded"),
        "endless-list.wav": (riff(form(), b"LIST\xff\xff\xff\xffINFO", data), "cannot be decoded"),
        "sub-mp3.wav": (riff(extensible(0x55, 16, 16), data), "unimplemented"),
        "lies.rf64.wav": (rf64(2**62), "promises 4611686018427387904 bytes"),
        "minus.rf64.wav": (rf64(2**64 - 1), "cannot be decoded"),
        "nothing.rf64.wav": (rf64(0), "holds no samples"),
        "broadcast.wav": (rf64(len(PCM), b"BW64"), "It is bw64"),
        "still.w64": (_still_w64(), "cannot be decoded"),
        "endless.caf": (_in_caf(b"data", 4, struct.pack(">q", 2**62)), "promises 4611686018427387900 bytes"),
        "nan.caf": (_in_caf(b"desc", 12, struct.pack(">d", float("nan"))), "cannot be decoded"),
        "nan.aiff": (_aiff_rate(b"\x7f\xff\xc0"), "channels times Hz"),
        "minus.aiff": (_aiff_rate(b"\xc0\x0c\xfa"), "cannot be decoded"),
        "unknown.aiff": (aifc(b"QDM2", PCM), "unimplemented"),
        "offset.au": (b".snd" + struct.pack(">IIIII", 2**31, len(PCM), 3, RATE_HZ, 1) + PCM, "of sound, 0 are there"),
        "fast.au": (b".snd" + struct.pack(">IIIII", 24, len(PCM), 3, 2**32 - 1, 1) + PCM, "cannot be decoded"),
        "skipped.opus": (_paged("OPUS", _head(10, b"\xff\xff")), "cannot be decoded"),
        "loud.opus": (_paged("OPUS", _head(16, b"\xff\x7f")), "full scale is 1"),
        "many.opus": (_paged("OPUS", _head(9, b"\xff")), "cannot be decoded"),
        "back.opus": (_paged("OPUS", _last(10)), "wrong length"),
        "uncounted.opus": (_paged("OPUS", _last(-1)), "wrong length"),
        "years.opus": (_paged("OPUS", _last(2**62)), "96076792050570"),
        "back.ogg": (_paged("VORBIS", _last(100)), "wrong length"),
        "beside.ogg": (_beside(), "several sounds side by side"),
        "midi.wav": (b"MThd" + struct.pack(">IHHH", 6, 1, 1, 96) + b"MTrk" + bytes(40), "It is midi"),
        "avi.wav": (b"RIFF" + struct.pack("<I", 2000) + b"AVI LIST" + bytes(2000), "It is avi"),
        "flv.wav": (b"FLV\1\4\0\0\0\t" + bytes(500), "It is flv"),
        "module.wav": (b"song".ljust(1080, b"\0") + b"M.K." + bytes(3000), "cannot be decoded"),
        "dsd.wav": (b"DSD " + struct.pack("<QQQ", 28, 9000, 0) + bytes(9000), "It is dsf"),
        "rates.mp3": (encoded(tone(), "MP3") + encoded(tone(), "MP3", None, 32_000), "changes from 16000 Hz"),
        "counts.mp3": (_counted_mp3(2**31), "77309411"),
        "rate.flac": (_flac(18, b"\0\0\0"), "cannot be decoded"),
        "comments.flac": (_flac_with(4, UNKNOWN + b"x" * 50), "cannot be decoded"),
    }  # fmt: skip
    if importlib.util.find_spec("av") is not None:
        tracks = contained_tracks()
        found |= {
            "tracks.mp4": (tracks, "2 sounds side by side"),
            "moment.mp4": (_mp4(20, b"\0\0\0\1"), "0.00"),
            "ticks.mp4": (_mp4(16, b"\x7f\xff\xff\xff"), "0.00"),
            "no-ticks.mp4": (_mp4(16, bytes(4)), "breaks off"),
            "atoms.mp4": (b"\0\0\0\x18ftypisom\0\0\0\0isomiso2" + b"\0\0\0\x08moov" * 50_000, "no sound"),
            "size.mkv": (b"\x1a\x45\xdf\xa3\1" + b"\xff" * 6 + b"\xfe" + bytes(999), "cannot be decoded"),
        }
    return found


def contained_tracks(tracks: int = 2) -> bytes:
    """An mp4 with so many sounds."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        streams = [container.add_stream("aac", rate=RATE_HZ, layout="mono") for _ in range(tracks)]
        for seed, stream in enumerate(streams):
            frame = av.AudioFrame.from_ndarray(
                speechlike(1.0, RATE_HZ, seed)[None], format="fltp", layout="mono"
            )
            frame.sample_rate = RATE_HZ
            cutter = av.AudioResampler(format="fltp", layout="mono", rate=RATE_HZ, frame_size=1024)
            for part in (*cutter.resample(frame), *cutter.resample(None)):
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))
    return buffer.getvalue()


def _mp4(place: int, value: bytes) -> bytes:
    """An mp4 whose track says something else of its time."""
    whole = bytearray(contained_tracks(1))
    at = whole.index(b"mdhd") + place
    whole[at : at + len(value)] = value
    return bytes(whole)


def _still_w64() -> bytes:
    """A chunk of no bytes, after which the next one is itself."""
    whole = bytearray(encoded(tone(), "W64", "PCM_16"))
    whole[56:64] = bytes(8)
    return bytes(whole)


def _in_caf(name: bytes, place: int, value: bytes) -> bytes:
    whole = bytearray(encoded(tone(), "CAF", "PCM_16"))
    at = whole.index(name) + place
    whole[at : at + len(value)] = value
    return bytes(whole)


def _aiff_rate(begin: bytes) -> bytes:
    whole = bytearray(encoded(tone(), "AIFF", "PCM_16"))
    at = whole.index(b"COMM") + 16
    whole[at : at + 10] = begin + bytes(7)
    return bytes(whole)


def _counted_mp3(frames: int) -> bytes:
    whole = bytearray(vbr_mp3(1.0))
    at = whole.index(b"Xing") + 8
    whole[at : at + 4] = struct.pack(">I", frames)
    return bytes(whole)


def _flac(place: int, value: bytes) -> bytes:
    whole = bytearray(encoded(tone(), "FLAC", "PCM_16"))
    whole[place : place + len(value)] = value
    return bytes(whole)


def _flac_with(kind: int, block: bytes) -> bytes:
    whole = encoded(tone(), "FLAC", "PCM_16")
    return (
        whole[:4] + b"\0" + whole[5:42] + bytes([kind]) + len(block).to_bytes(3, "big") + block + whole[42:]
    )


# --- Ogg: pages changed, each with its sum made again


def pages(data: bytes) -> list[bytearray]:
    """The pages of an Ogg file."""
    found, at = [], 0
    while at < len(data):
        segments = data[at + 26]
        end = at + 27 + segments + sum(data[at + 27 : at + 27 + segments])
        found.append(bytearray(data[at:end]))
        at = end
    return found


def _paged(kind: str, change) -> bytes:
    rate_hz = 48_000 if kind == "OPUS" else RATE_HZ
    found = pages(encoded(speechlike(1.0, rate_hz), "OGG", kind, rate_hz))
    change(found)
    return b"".join(map(_summed, found))


def _head(place: int, value: bytes):
    def change(found: list[bytearray]) -> None:
        at = found[0].index(b"OpusHead") + place
        found[0][at : at + len(value)] = value

    return change


def _last(granule: int):
    def change(found: list[bytearray]) -> None:
        found[-1][6:14] = struct.pack("<q", granule)

    return change


def _late(found: list[bytearray]) -> None:
    for page in found:
        (granule,) = struct.unpack("<q", page[6:14])
        if granule > 0:
            page[6:14] = struct.pack("<q", granule + 48_000 * 36_000)


def _beside() -> bytes:
    first = pages(encoded(speechlike(1.0), "OGG", "VORBIS"))
    second = pages(encoded(speechlike(1.0, 48_000), "OGG", "OPUS", 48_000))
    return b"".join([first[0], second[0], *first[1:], *second[1:]])


def _summed(page: bytearray) -> bytes:
    page[22:26] = bytes(4)
    total = 0
    for byte in page:
        total = (total << 8 & 0xFFFFFFFF) ^ _SUMS[total >> 24 ^ byte]
    page[22:26] = struct.pack("<I", total)
    return bytes(page)


def _sum_of(byte: int) -> int:
    total = byte << 24
    for _ in range(8):
        total = (total << 1 ^ 0x04C11DB7 if total & 0x80000000 else total << 1) & 0xFFFFFFFF
    return total


_SUMS = [_sum_of(byte) for byte in range(256)]
