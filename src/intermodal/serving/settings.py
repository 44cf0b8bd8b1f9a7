"""What a server allows: sizes, rates and waits, all in one frozen record."""

from dataclasses import dataclass, fields

from intermodal.errors import InvalidValue

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Settings:
    """The numbers of a server.

    Attributes:
        host: address that it listens on; any other than this machine's own needs keys.
        hosts: further names under which it may be asked, beside those of this machine, where it listens on loopback.
        port: where it listens.
        body_bytes: of one request.
        held_bytes: of all requests that are being read or answered.
        requests_max: answered at a time; one more is told to come back.
        read_s: longest wait for the next piece of a request.
        pixels: of a picture, or of one frame of a video.
        video_pixels: of all frames of a video.
        seconds: of a sound or a video.
        numbers: in a series.
        inputs: items in one request.
        tokens: of all texts of one request.
        candidates: that one request may ask for, over all its items.
        rate: requests per second of one key, in the mean; 0 for no limit. Without keys there is none.
        burst: requests that one key may send at once.
        wait_s: how long the first of a batch waits for others, where nothing is being computed.
        queue: pieces of work that may wait.
        together: items that are embedded together.
        made_together: things that are made together.
        threads: of each of the two places that compute; 0 shares the cores between them.
        drain_s: how long what runs may take to end when the server stops.
        hits: that one search may ask for.
    """

    host: str = "127.0.0.1"
    hosts: tuple[str, ...] = ()
    port: int = 8000
    body_bytes: int = 64 * 2**20
    held_bytes: int = 512 * 2**20
    requests_max: int = 512
    read_s: float = 60.0
    pixels: int = 32_000_000
    video_pixels: int = 256_000_000
    seconds: float = 600.0
    numbers: int = 16_000_000
    inputs: int = 2048
    tokens: int = 300_000
    candidates: int = 16
    rate: float = 50.0
    burst: int = 200
    wait_s: float = 0.002
    queue: int = 4096
    together: int = 64
    made_together: int = 8
    threads: int = 0
    drain_s: float = 30.0
    hits: int = 1000

    def __post_init__(self) -> None:
        """Checks that every limit lets something through."""
        for field in fields(self):
            value = getattr(self, field.name)
            free = field.name in ("rate", "threads", "wait_s", "port")
            if isinstance(value, int | float) and (value < 0 if free else value <= 0):
                raise InvalidValue(f"the setting {field.name} is {value}; give a number above 0")
        if not 0 <= self.port < 65_536:
            raise InvalidValue(f"port is {self.port}; give one up to 65535, or 0 for any that is free")

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOOPBACK

    def media(self) -> dict[str, float]:
        """Returns the limits that hold while media are opened: arguments of ``media.source.limited``."""
        return {
            "bytes_max": self.body_bytes,
            "pixels_max": self.pixels,
            "video_pixels_max": self.video_pixels,
            "seconds_max": self.seconds,
            "values_max": self.numbers,
        }
