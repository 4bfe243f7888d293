"""The command line: options beat the environment, and every error comes at once."""

from pathlib import Path

import pytest

from services.producer.options import read_options
from services.runtime.settings import SettingsInvalid


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_an_option_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said last, and nearest, wins."""
    monkeypatch.setenv("RATE", "5")
    monkeypatch.setenv("BATCH_SIZE", "7")
    told = read_options(["--rate", "9", "--duration", "0"])
    assert told.settings.rate == 9
    assert told.duration_s == 0
    assert told.batch_size == 7


def test_every_error_is_in_one_message() -> None:
    """Settings and options are told together."""
    with pytest.raises(SettingsInvalid) as error:
        read_options(["--rate", "x", "--from", "-", "--resume", "--map", "a=b", "--ts-unit", "h"])
    assert len(error.value.errors) == 4


def test_an_unknown_option_is_an_error() -> None:
    """Nothing is guessed."""
    with pytest.raises(SettingsInvalid, match="--nonsense"):
        read_options(["--nonsense"])


def test_a_batch_larger_than_the_stream_is_an_error() -> None:
    """It would wait for room for ever."""
    Path(".env").write_text("STREAM_MAX_LENGTH=1000\n", encoding="utf-8")
    assert read_options(["--batch-size", "1000"]).batch_size == 1000
    with pytest.raises(SettingsInvalid, match="STREAM_MAX_LENGTH"):
        read_options(["--batch-size", "1001"])


def test_maps_may_be_repeated_or_listed() -> None:
    """Both ways give one mapping; a constant may hold a comma."""
    told = read_options(["--from", "a.csv", "--map", "device_id=sensor,ts=time", "--map", "kpi=k"])
    assert told.reading is not None
    assert told.reading.mapped.columns == {"device_id": "sensor", "ts": "time", "kpi": "k"}
    told = read_options(["--from", "a.csv", "--map", "value=Temp, °C,ts=time"])
    assert told.reading is not None
    assert told.reading.mapped.columns == {"value": "Temp, °C", "ts": "time"}
    told = read_options(["--from", "a.csv", "--const", "zone=a,b"])
    assert told.reading is not None
    assert told.reading.mapped.constants == {"zone": "a,b"}


def test_a_file_is_read_to_its_end_unless_told_otherwise() -> None:
    """The defaults of pace and duration are those of the generator only."""
    told = read_options(["--from", "a.csv"])
    assert (told.duration_s, told.sleep_interval_s, told.batch_size) == (0, 0, 500)
    told = read_options(["--from", "a.csv", "--duration", "3", "--batch-size", "2"])
    assert (told.duration_s, told.sleep_interval_s, told.batch_size) == (3, 1.0, 2)


def test_file_options_want_a_file() -> None:
    """They mean nothing to the generator."""
    with pytest.raises(SettingsInvalid, match="--from FILE"):
        read_options(["--map", "ts=time"])


def test_a_mapping_file_says_what_options_say_and_options_say_it_louder() -> None:
    """Every key has its option, and together they are one mapping."""
    Path("m.toml").write_text(
        'delimiter = ";"\ndecimal = ","\n[fields]\nts = "time"\nkpi = "k"\n'
        '[values]\n"T, °C" = "temperature"\n',
        encoding="utf-8",
    )
    told = read_options(["--from", "a.csv", "--mapping", "m.toml", "--decimal", ".", "--map", "ts=when"])
    assert told.reading is not None
    mapped = told.reading.mapped
    assert (mapped.layout.delimiter, mapped.decimal) == (";", ".")
    assert mapped.columns == {"ts": "when", "kpi": "k"}
    assert [(one.column, one.constants) for one in mapped.values] == [("T, °C", {"kpi": "temperature"})]
    options = [
        "--delimiter=;", "--decimal=.", "--map=ts=when", "--map=kpi=k", "--value=T, °C=temperature",
    ]  # fmt: skip
    again = read_options(["--from", "a.csv", *options])
    assert again.reading is not None
    assert again.reading.mapped == mapped


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("%d/%m/%Y %H:%M %p", "%I and %p belong together"),
        ("%d/%m/%Y %I:%M", "%I and %p belong together"),
        ("%Y-%m-%d %H:%M:%S %Z", "%Z tells no zone"),
    ],
)
def test_a_pattern_that_would_be_heeded_by_half_is_refused(pattern: str, why: str) -> None:
    """Python passes over AM and PM beside an hour of 24, and over the letters of a zone."""
    with pytest.raises(SettingsInvalid, match=why):
        read_options(["--from", "a.csv", "--time-format", pattern])
    told = read_options(["--from", "a.csv", "--time-format", "%d/%m/%Y %I:%M%p %z"])
    assert told.reading is not None


@pytest.mark.parametrize("name", ["base64", "undefined", "latin\\u0000"])
def test_an_encoding_that_is_none_of_text_is_refused(name: str) -> None:
    """Whatever Python makes of its name."""
    Path("m.toml").write_text(f'encoding = "{name}"\n', encoding="utf-8")
    with pytest.raises(SettingsInvalid, match=r"m.toml:1: encoding: .* no such encoding"):
        read_options(["--from", "a.csv", "--mapping", "m.toml"])


def test_every_error_of_a_mapping_file_is_told_with_its_line() -> None:
    """And those of the options beside it."""
    Path("m.toml").write_text(
        'delimiter = ";;"\n\ndecimal = 5\nskip_lines = "two"\ncolour = "red"\n[time]\n'
        'zone = "Europe/Nowhere"\nformat = "when"\nepoch = 1\n'
        '[fields]\nsensor = "a"\n[values]\n"T, °C" = { colour = "x" }\n'
        '[constants]\nevent_id = "x"\n',
        encoding="utf-8",
    )
    with pytest.raises(SettingsInvalid) as error:
        read_options(
            ["--from", "a.csv", "--mapping", "m.toml", "--encoding", "base64", "--max-rejected", "x"]
        )
    told = error.value.errors
    for where in ("m.toml:1: delimiter", "m.toml:3: decimal", "m.toml:4: skip_lines", "m.toml:5: colour"):
        assert sum(one.startswith(where) for one in told) == 1, told
    for where in ("m.toml:7: zone", "m.toml:8: format", "m.toml:9: epoch", "m.toml:11: sensor"):
        assert sum(one.startswith(where) for one in told) == 1, told
    for where in ("m.toml:13: T, °C", "m.toml:15: event_id", "--encoding", "--max-rejected x"):
        assert sum(one.startswith(where) for one in told) == 1, told
    assert len(told) == 12


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("delimiter = ", "not TOML"),
        ("a = " + "[" * 5000, "not TOML"),
        ("a = " + "1" * 5000, "not TOML"),
        ("a" * 9000, "longer than"),
        ('time = "x"', "write a table"),
    ],
)
def test_what_is_no_mapping_file_is_one_error(text: str, told: str) -> None:
    """Whatever stands in it."""
    Path("m.toml").write_text(text, encoding="utf-8")
    with pytest.raises(SettingsInvalid) as error:
        read_options(["--from", "a.csv", "--mapping", "m.toml"])
    assert len(error.value.errors) == 1
    assert told in error.value.errors[0]


def test_a_mapping_file_that_is_not_there_is_an_error() -> None:
    """By its name."""
    with pytest.raises(SettingsInvalid, match=r"--mapping no.toml: no such file"):
        read_options(["--from", "a.csv", "--mapping", "no.toml"])


def test_columns_to_keep_may_be_repeated_or_listed() -> None:
    """In the order given, each once."""
    told = read_options(["--from", "a.csv", "--keep", "firmware, status", "--keep", "site,firmware"])
    assert told.reading is not None
    assert told.reading.mapped.kept == ("firmware", "status", "site")


@pytest.mark.parametrize(
    ("keep", "told"),
    [
        (",", "--keep: name the columns"),
        (",".join(map(str, range(17))), "--keep: 17 columns; an event has at most 16 attributes"),
        ("n" * 65, "an attribute's name has at most 64 characters"),
    ],
)
def test_what_can_not_be_kept_is_told(keep: str, told: str) -> None:
    """Before anything is read."""
    with pytest.raises(SettingsInvalid) as caught:
        read_options(["--from", "a.csv", "--keep", keep])
    assert told in str(caught.value)
