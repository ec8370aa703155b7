"""Options of a plugin's dataclass: values of all usual types are read from text, and errors are one clear line."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Optional, Sequence, Union  # noqa: UP035 - as authors write them

import pytest

from surgery.errors import PluginError, RenderError
from surgery.plugins.option_types import format_option_value
from surgery.plugins.options import configure, list_options
from surgery.plugins.registry import Plugins
from tests.distributions import plugin


class Side(Enum):
    low = "bottom"
    high = "top"


class Rank(IntEnum):
    first = 1
    second = 2


Name = NewType("Name", str)


@dataclass(frozen=True)
class Everything:
    side: Side = Side.low
    rank: Rank = Rank.first
    kind: Literal["fast", "slow", 3, None] = "fast"  # noqa: PYI061
    flag: bool = False
    maybe: bool | None = None
    count: Optional[int] = None  # noqa: UP045
    either: Union[int, float, str] = 1  # noqa: UP007
    ratio: Annotated[float, "from 0 to 1"] = 0.5
    where: Path = Path()
    perhaps: Path | None = None
    name: Name = Name("x")
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[int, float] = (1, 0.5)
    names: list[str] = field(default_factory=list)
    sides: set[Side] = field(default_factory=set)
    several: Sequence[float] = ()
    some: list[int] | None = None
    one_or_more: int | tuple[int, ...] = 1
    paths: tuple[Path, ...] = ()
    open: Any = None
    hidden: int = field(default=3, init=False)

    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("side=high", Side.high),
        ("side=HIGH", Side.high),
        ("side=top", Side.high),
        ("rank=second", Rank.second),
        ("rank=2", Rank.second),
        ("kind=slow", "slow"),
        ("kind=Slow", "slow"),
        ("kind=3", 3),
        ("kind=none", None),
        *((f"flag={text}", True) for text in ("true", "True", "TRUE", "yes", "Yes", "on", "1")),
        *((f"flag={text}", False) for text in ("false", "False", "No", "NO", "off", "0")),
        ("maybe=None", None),
        ("maybe=yes", True),
        ("count=none", None),
        ("count=7", 7),
        ("either=7", 7),
        ("either=0.5", 0.5),
        ("either=seven", "seven"),
        ("ratio=1e-3", 1e-3),
        ("where=a/b", Path("a/b")),
        ("where=~", Path.home()),
        ("where=a\\,b", Path("a,b")),
        ("perhaps=none", None),
        ("perhaps=x", Path("x")),
        ("name=a\\=b", "a=b"),
        ("sizes=3", (3,)),
        ("sizes=3,4,5", (3, 4, 5)),
        ("sizes=(3, 4)", (3, 4)),
        ("sizes=[3]", (3,)),
        ("sizes=3,", (3,)),
        ("sizes=", ()),
        ("pair=3,4.5", (3, 4.5)),
        ("names=a,b c", ["a", "b c"]),
        ("names=a\\,b", ["a,b"]),
        ("sides=high,low", {Side.high, Side.low}),
        ("several=1,2.5", (1.0, 2.5)),
        ("some=none", None),
        ("some=1,2", [1, 2]),
        ("one_or_more=4", 4),
        ("one_or_more=4,5", (4, 5)),
        ("paths=a,b/c", (Path("a"), Path("b/c"))),
        ("open=anything", "anything"),
    ],
)
def test_an_option_has_the_value_and_the_type_that_its_field_says(text: str, value: object) -> None:
    name = text.partition("=")[0]
    found = getattr(configure("all", Everything(), text), name)
    assert found == value
    assert type(found) is type(value)
    written = f"{name}={format_option_value(found)}"
    assert getattr(configure("all", Everything(), written), name) == value


def test_several_options_of_several_values() -> None:
    found = configure("all", Everything(), "sizes=1,2,3, names=a,b,flag=yes,pair=4,5")
    assert (found.sizes, found.names, found.flag, found.pair) == ((1, 2, 3), ["a", "b"], True, (4, 5.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("side=middle", "side of all takes low, high, not 'middle'"),
        ("kind=quick", "kind of all takes fast, slow, 3, none, not 'quick'"),
        ("flag=maybe", "flag of all takes true or false, not 'maybe'"),
        ("count=many", "count of all takes a whole number or none, not 'many'"),
        ("ratio=half", "ratio of all takes a number, not 'half'"),
        ("sizes=1,x", "sizes of all takes values separated by commas (a whole number), not '1,x'"),
        ("pair=1", "pair of all takes 2 values separated by commas (a whole number, a number), not '1'"),
        ("sides=high,x", "sides of all takes values separated by commas (low, high), not 'high,x'"),
        ("count=1,2", "options of all are written name=value, not '2'"),
        ("nams=a", "no option of all is called 'nams'"),
        ("hidden=4", "no option of all is called 'hidden'"),
        ("count=", None),
    ],
)
def test_a_value_of_another_type_is_told_with_what_the_option_takes(text: str, message: str | None) -> None:
    if message is None:
        assert configure("all", Everything(), text).count is None
        return
    with pytest.raises(PluginError) as caught:
        configure("all", Everything(), text)
    assert str(caught.value).startswith(message)


ELSEWHERE = """
    from __future__ import annotations
    from dataclasses import dataclass
    from typing import TYPE_CHECKING
    import surgery
    from surgery.builtin.normalizers import Percentile
    if TYPE_CHECKING:
        from torch import Tensor
        from somewhere import Nothing
    @dataclass(frozen=True)
    class Robust(Percentile):
        widen: float = 1.0
    @dataclass(frozen=True)
    class Half:
        gap: int = 1
        weight: Tensor | None = None
        odd: Nothing = 2
        def __call__(self, values): return values.new_zeros(()), values.new_ones(())
    @dataclass(frozen=True)
    class Strict:
        least: int = 0
        table: dict[str, int] | None = None
        kernel: bytes = b""
        def __post_init__(self):
            if self.least < 0: raise ValueError("least is negative\\nsecond line")
        def __call__(self, values): return values.new_zeros(()), values.new_ones(())
    @surgery.hookimpl
    def surgery_normalizers(): return {"robust": Robust(), "half": Half(), "strict": Strict()}
"""


def test_types_that_are_written_in_other_modules_are_read_there(tmp_path: Path) -> None:
    found = Plugins([plugin(tmp_path, ELSEWHERE)], bare=True)
    robust = found.resolve("normalizer", "robust:widen=2,low=5,per=Layer")
    assert (robust.widen, robust.low, robust.per) == (2.0, 5.0, "layer")
    assert found.resolve("normalizer", "half:gap=3").gap == 3
    assert found.resolve("normalizer", "half:odd=3").odd == 3
    with pytest.raises(RenderError, match="percentiles are"):
        found.resolve("normalizer", "robust:low=500")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("half:weight=x", "weight of half takes a value of a type that can't be read, which can't be written here"),
        ("strict:table=x", "table of strict takes none, not 'x'"),
        ("strict:kernel=x", "kernel of strict takes bytes, which can't be written here; set it in Python"),
        ("strict:least=-1", "strict does not take least=-1: least is negative"),
    ],
)
def test_what_can_not_be_set_by_text_and_what_a_stage_refuses_is_one_line(
    tmp_path: Path, text: str, message: str
) -> None:
    found = Plugins([plugin(tmp_path, ELSEWHERE)], bare=True)
    with pytest.raises(PluginError) as caught:
        found.resolve("normalizer", text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_library_that_checks_values_is_told_in_our_words() -> None:
    pydantic: Any = pytest.importorskip("pydantic.dataclasses")
    fields: Any = pytest.importorskip("pydantic")

    @pydantic.dataclass(frozen=True)
    class Checked:
        share: float = fields.Field(0.5, gt=0, le=1)
        sizes: tuple[int, ...] = (1,)

        def __call__(self) -> None: ...

    assert configure("checked", Checked(), "share=1,sizes=2,3") == Checked(1.0, (2, 3))  # type: ignore[call-arg]
    with pytest.raises(PluginError) as caught:
        configure("checked", Checked(), "share=2")
    assert str(caught.value) == "share of checked takes a number, at most 1.0, not '2'"


def test_options_are_shown_with_what_they_take(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
    from dataclasses import dataclass
    from enum import Enum
    from pathlib import Path
    import surgery
    class Side(Enum):
        low = 1
        high = 2
    @dataclass(frozen=True)
    class Edge:
        side: Side = Side.high
        sizes: tuple[int, ...] = (1, 2)
        mask: Path | None = None
        def __call__(self, maps): return maps
    @surgery.hookimpl
    def surgery_transforms(): return {"edge": Edge()}
    """
    plugin(tmp_path, textwrap.dedent(text))
    for width in ("60", "80", "120"):
        monkeypatch.setenv("COLUMNS", width)
        lines = " ".join(run("plugins", "show", "edge", "--plugin", "mine.py").out.split())
        assert "side=high low, high" in lines
        assert "sizes=1,2 values separated by commas" in lines
        assert "mask=none a path or none" in lines
    assert [option.expected for option in list_options(Everything())][:4] == [
        *("low, high", "first, second", "fast, slow, 3, none", "true or false")
    ]
