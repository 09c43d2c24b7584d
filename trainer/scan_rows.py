"""Rows of one data file, one after the other, with the line they begin on; memory stays that of a row.

Standard library only, but for Parquet (pyarrow, where it is installed).
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from .scan_files import DataFile, DataFileError, Layout, decompressed

#: A longer row is named and skipped: it would not train either.
ROW_LIMIT = 16 << 20
_CHUNK = 1 << 18
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$")
_BOOLEANS = frozenset({"true", "True", "TRUE", "false", "False", "FALSE"})


@dataclass(slots=True)
class Item:
    """What stands at a place of a file: a row, a fault, or a row that has one."""

    line: int
    """The line it begins on, from 1; in Parquet its number as a row."""
    row: dict[str, Any] | None = None
    raw: bytes = b""
    """What makes two rows the same."""
    fault: str | None = None
    """A problem's code."""
    detail: str = ""


class Position:
    """How far a file has been read, in the bytes that its size counts."""

    def __init__(self) -> None:
        self.tell: Callable[[], int] = lambda: 0


def read_rows(file: DataFile, layout: Layout, position: Position) -> Iterator[Item]:
    """Every row of a file, and every fault in its place.

    Raises:
        DataFileError: environment_missing, for Parquet where pyarrow isn't installed; bad_format, for a file that
            breaks off.
    """
    if layout.shape == "parquet":
        yield from _parquet(file, position)
        return
    with open(file.path, "rb") as stored:
        position.tell = stored.tell
        try:
            yield from _TEXT_READERS[layout.shape](decompressed(file.path, stored), layout)
        except (OSError, EOFError) as error:
            raise DataFileError(
                "bad_format",
                f"{file.path} breaks off or can't be read: {error}.",
                next_step=f"Copy or compress the file again, then inspect_dataset(path={str(file.path)!r}) again.",
            ) from error
        finally:
            position.tell = lambda: file.size


def _lines(stream: BinaryIO, layout: Layout) -> Iterator[tuple[int, int, bytes]]:
    """(line number, offset in bytes, line as UTF-8); of a line past the limit only its beginning."""
    number = offset = 0
    if layout.encoding in ("UTF-8", "UTF-8 with BOM") and layout.line_ends != "CR":
        while line := stream.readline(ROW_LIMIT + 1):
            number += 1
            start = offset
            offset += len(line)
            kept = line[3:] if start == 0 and line.startswith(codecs.BOM_UTF8) else line
            while len(line) > ROW_LIMIT and not line.endswith(b"\n"):
                line = stream.readline(ROW_LIMIT + 1)
                offset += len(line)
                if not line:
                    break
            yield number, start, kept
        return
    ends = "\r" if layout.line_ends == "CR" else "\n"
    text = io.TextIOWrapper(stream, encoding=layout.codec, errors="replace", newline=ends)
    while part := text.readline(ROW_LIMIT):
        number += 1
        yield number, -1, part.encode("utf-8", "replace")
    text.detach()


def _json_lines(stream: BinaryIO, layout: Layout) -> Iterator[Item]:
    for number, offset, line in _lines(stream, layout):
        raw = line.strip()
        if not raw:
            continue
        if len(line) > ROW_LIMIT:
            yield Item(number, fault="row_too_long", detail=f"over {ROW_LIMIT >> 20} MB")
            continue
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            at = offset + line.find(raw[:1]) + error.start
            yield Item(number, fault="bad_encoding", detail=f"byte 0x{raw[error.start]:02x} at offset {at:,}")
            text = raw.decode(errors="replace")
        yield _parse(number, text, raw)


def _parse(number: int, text: str, raw: bytes) -> Item:
    try:
        value: Any = json.loads(text)
    except json.JSONDecodeError as error:
        return Item(number, fault="broken_json", detail=f"{error.msg} (column {error.colno})")
    except (ValueError, RecursionError) as error:
        return Item(number, fault="broken_json", detail=type(error).__name__)
    return _as_row(number, value, raw)


def _as_row(number: int, value: object, raw: bytes) -> Item:
    if not isinstance(value, dict):
        return Item(number, fault="row_not_object", detail=f"a JSON {type(value).__name__}")
    if b"\\ud" in raw or b"\\uD" in raw:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except (UnicodeEncodeError, RecursionError):
            return Item(number, value, raw, "lone_surrogate")
    return Item(number, value, raw)


def _json_stream(stream: BinaryIO, layout: Layout) -> Iterator[Item]:
    """Objects of one list (`[{…}, {…}]`), or objects that span lines, cut from a moving window."""
    decoder = json.JSONDecoder()
    text = _Window(stream, layout)
    listed = layout.shape == "array"
    text.skip("\ufeff \t\r\n")
    if listed:
        text.skip("[", once=True)
    while True:
        text.skip(" \t\r\n")
        if listed:
            text.skip(",", once=True)
            text.skip(" \t\r\n")
        head = text.head()
        if not head or (listed and head == "]"):
            if listed and not head:
                yield Item(text.line, fault="broken_json", detail="the list isn't closed: the file breaks off")
            break
        try:
            value, raw = text.take(decoder)
        except (ValueError, RecursionError) as error:
            detail = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
            yield Item(text.error_line, fault="broken_json", detail=f"{detail}; what follows can't be read")
            break
        yield _as_row(text.taken_line, value, raw)
    if text.bad is not None:
        yield Item(text.bad[0], fault="bad_encoding", detail=text.bad[1])


class _Window:
    """A stretch of decoded text that moves through a file, and the line it stands on."""

    def __init__(self, stream: BinaryIO, layout: Layout) -> None:
        self.stream = stream
        self.codec = layout.codec
        self.decoder = codecs.getincrementaldecoder(self.codec)()
        self.text, self.at, self.line = "", 0, 1
        self.ended = False
        self.read_bytes = self.read_lines = 0
        self.bad: tuple[int, str] | None = None
        self.taken_line = self.error_line = 1

    def _more(self) -> bool:
        """Read on, twice as much as is waiting; False at the end."""
        if self.ended:
            return False
        wanted = max(_CHUNK, len(self.text) - self.at)
        data = self.stream.read(wanted)
        self.ended = not data
        pending = self.decoder.getstate()
        try:
            new = self.decoder.decode(data, self.ended)
        except UnicodeDecodeError as error:
            line = self.read_lines + error.object[: error.start].count(b"\n") + 1
            offset = self.read_bytes - len(pending[0]) + error.start
            self.bad = (line, f"byte 0x{error.object[error.start]:02x} at offset {offset:,}")
            self.decoder = codecs.getincrementaldecoder(self.codec)("replace")
            self.decoder.setstate(pending)
            new = self.decoder.decode(data, self.ended)
        self.read_bytes += len(data)
        self.read_lines += data.count(b"\n")
        self.text = self.text[self.at :] + new
        self.at = 0
        return not self.ended or bool(new)

    def head(self) -> str:
        """The next character, empty at the end."""
        while self.at >= len(self.text):
            if not self._more():
                return ""
        return self.text[self.at]

    def skip(self, characters: str, *, once: bool = False) -> None:
        """Step over these characters."""
        while (head := self.head()) and head in characters:
            self.line += head == "\n"
            self.at += 1
            if once:
                return

    def take(self, decoder: json.JSONDecoder) -> tuple[object, bytes]:
        """The JSON value that begins here, and its text.

        Raises:
            ValueError: it is broken, or longer than a row may be.
        """
        while True:
            try:
                value, end = decoder.raw_decode(self.text, self.at)
                if end < len(self.text) or self.ended or not self._more():
                    break
                continue
            except json.JSONDecodeError as error:
                inside = error.pos - self.at
                unfinished = error.pos >= len(self.text) - 16 or error.msg.startswith("Unterminated")
                if not unfinished or len(self.text) - self.at > ROW_LIMIT or not self._more():
                    self.error_line = self.line + self.text.count("\n", self.at, self.at + inside)
                    raise
            except (ValueError, RecursionError):
                self.error_line = self.line
                raise
        taken = self.text[self.at : end]
        self.taken_line = self.line
        self.line += taken.count("\n")
        self.at = end
        return value, taken.encode("utf-8", "replace")


def _csv(stream: BinaryIO, layout: Layout) -> Iterator[Item]:
    csv.field_size_limit(ROW_LIMIT)
    source = _CsvLines(stream, layout)
    reader = csv.reader(source, delimiter=layout.delimiter or ",")
    header: list[str] | None = None
    while True:
        begin = source.number + 1
        source.text.clear()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield Item(begin, fault="broken_csv", detail=str(error)[:80])
            continue
        if cells is None:
            break
        if source.bad is not None:
            yield Item(source.bad[0], fault="bad_encoding", detail=source.bad[1])
            source.bad = None
        raw = "".join(source.text)
        if source.ended and raw.count('"') % 2:
            yield Item(begin, fault="broken_csv", detail="a quote that opens here is never closed")
            continue
        if not cells:
            continue
        if header is None:
            header = [name.strip() or f"column {index + 1}" for index, name in enumerate(cells)]
        elif len(cells) != len(header):
            detail = f"{len(cells)} fields where the header has {len(header)}"
            row = {name: _cell(cell) for name, cell in zip(header, cells, strict=False)}
            yield Item(begin, {**dict.fromkeys(header), **row}, raw.encode("utf-8", "replace"), "ragged_rows", detail)
        else:
            row = {name: _cell(cell) for name, cell in zip(header, cells, strict=True)}
            yield Item(begin, row, raw.strip().encode("utf-8", "replace"))


class _CsvLines:
    """Lines as text for the csv module, which joins those inside quotes."""

    def __init__(self, stream: BinaryIO, layout: Layout) -> None:
        self.lines = _lines(stream, layout)
        self.number = 0
        self.text: list[str] = []
        self.bad: tuple[int, str] | None = None
        self.ended = False

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        try:
            self.number, offset, line = next(self.lines)
        except StopIteration:
            self.ended = True
            raise
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            self.bad = (self.number, f"byte 0x{line[error.start]:02x} at offset {offset + error.start:,}")
            text = line.decode(errors="replace")
        self.text.append(text)
        return text


class NumberCell(str):
    """A CSV cell that reads as a number; still its text, as a column of several kinds is text."""

    __slots__ = ()


class BooleanCell(str):
    """A CSV cell that reads as true or false."""

    __slots__ = ()


def _cell(text: str) -> str | None:
    """A cell as the training library reads it: empty is null, numbers and booleans are none of text."""
    if not text:
        return None
    if text[0] in "+-.0123456789" and len(text) < 40 and _NUMBER.match(text):
        return NumberCell(text)
    return BooleanCell(text) if text in _BOOLEANS else text


_TEXT_READERS: dict[str, Callable[[BinaryIO, Layout], Iterator[Item]]] = {
    "jsonl": _json_lines,
    "array": _json_stream,
    "objects": _json_stream,
    "csv": _csv,
}


def _parquet(file: DataFile, position: Position) -> Iterator[Item]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise DataFileError(
            "environment_missing",
            f"{file.path} is Parquet, which takes pyarrow to read; it comes with the training environment.",
            next_step="Run `model-trainer setup`, or give the data as JSONL or CSV.",
        ) from None
    number = 0
    try:
        with pq.ParquetFile(file.path) as parquet:
            total = parquet.metadata.num_rows or 1
            position.tell = lambda: file.size * number // total
            for batch in parquet.iter_batches(batch_size=512, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield Item(number, row, repr(row).encode("utf-8", "replace"))
    except (pa.ArrowException, OSError) as error:
        raise DataFileError(
            "bad_format",
            f"{file.path} is no readable Parquet file: {str(error)[:200]}",
            next_step="Write the file again (it may have been cut off), then "
            f"inspect_dataset(path={str(file.path)!r}) again.",
        ) from error
