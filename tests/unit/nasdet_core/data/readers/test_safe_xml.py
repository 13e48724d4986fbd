"""XML of strangers: lines, encodings, and bounds that hold before anything is expanded."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasdet_core.data.readers.safe_xml import MAX_BYTES, MAX_DEPTH, MAX_ELEMENTS, parse_xml, root_tag
from nasdet_core.errors import DatasetError


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "a.xml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


class TestSoundFiles:
    def test_every_element_knows_its_line(self, tmp_path: Path) -> None:
        file = parse_xml(written(tmp_path, "<a>\n<b>x</b><c/>\n\n<b>\ny</b>\n</a>"), "a.xml")
        first, second = file.root.findall("b")
        assert (first.text, second.text) == ("x", "\ny")
        assert [file.lines[element] for element in file.root.iter()] == [1, 2, 2, 4]
        assert file.lines[second] == 4

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1", "windows-1252"])
    def test_encodings(self, tmp_path: Path, encoding: str) -> None:
        declared = encoding.removesuffix("-sig")
        text = f'<?xml version="1.0" encoding="{declared}"?>\n<a>\n<b>Zürich</b></a>'
        file = parse_xml(written(tmp_path, text.encode(encoding)), "a.xml")
        assert file.root.findtext("b") == "Zürich"
        assert file.lines[file.root[0]] == 3

    def test_deep_but_sane(self, tmp_path: Path) -> None:
        path = written(tmp_path, "<a>" * MAX_DEPTH + "</a>" * MAX_DEPTH)
        assert len(parse_xml(path, "a.xml").lines) == MAX_DEPTH


class TestBounds:
    @pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 1_000_000])
    def test_depth(self, tmp_path: Path, depth: int) -> None:
        path = written(tmp_path, "<a>\n" + "<b>" * (depth - 1))
        with pytest.raises(DatasetError, match=f"a.xml line 2: more than {MAX_DEPTH} elements inside one another"):
            parse_xml(path, "a.xml")

    def test_elements(self, tmp_path: Path) -> None:
        path = written(tmp_path, "<a>" + "<b/>" * MAX_ELEMENTS + "</a>")
        with pytest.raises(DatasetError, match=f"a.xml has more than {MAX_ELEMENTS} elements"):
            parse_xml(path, "a.xml")

    def test_bytes(self, tmp_path: Path) -> None:
        path = tmp_path / "a.xml"
        with path.open("wb") as file:
            file.truncate(MAX_BYTES + 1)
        with pytest.raises(DatasetError, match=f"a.xml has {MAX_BYTES + 1} bytes"):
            parse_xml(path, "a.xml")

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
    def test_entity_bomb_is_refused_before_it_expands(self, tmp_path: Path, encoding: str) -> None:
        layers = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 30))
        head = f'<?xml version="1.0" encoding="{encoding}"?>\n<!DOCTYPE a [<!ENTITY e0 "ha">{layers}]>\n'
        path = written(tmp_path, f"{head}<annotation>&e29;</annotation>".encode(encoding))
        with pytest.raises(DatasetError, match=r"a.xml line 2: a document type declaration is not accepted"):
            parse_xml(path, "a.xml")

    def test_a_document_type_without_entities_is_refused_as_well(self, tmp_path: Path) -> None:
        path = written(tmp_path, '<!DOCTYPE a SYSTEM "a.dtd">\n<a/>')
        with pytest.raises(DatasetError, match=r"a.xml line 1: a document type declaration is not accepted"):
            parse_xml(path, "a.xml")

    def test_external_entity_is_not_read(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("dog")
        path = written(tmp_path, f'<!DOCTYPE a [<!ENTITY s SYSTEM "file://{tmp_path}/secret">]><a>&s;</a>')
        with pytest.raises(DatasetError, match="document type declaration"):
            parse_xml(path, "a.xml")


class TestBrokenFiles:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "line 1: broken XML (no element found)"),
            (b"<a>\n<b>\n</a>", "line 3: broken XML (mismatched tag)"),
            (b"<a>\n\0</a>", "line 2: broken XML (not well-formed (invalid token))"),
            (b"<a>\n\xff</a>", "line 2: broken XML (not well-formed (invalid token))"),
            (b"<?xml version='1.0' encoding='nonsense'?><a/>", "line 1: broken XML (unknown encoding"),
            (b"<a>&nbsp;</a>", "line 1: broken XML (undefined entity)"),
        ],
    )
    def test_sentence_names_file_and_line(self, tmp_path: Path, content: bytes, message: str) -> None:
        with pytest.raises(DatasetError) as caught:
            parse_xml(written(tmp_path, content), "a.xml")
        assert str(caught.value).startswith(f"a.xml {message}")

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"a.xml cannot be read: No such file"):
            parse_xml(tmp_path / "a.xml", "a.xml")


class TestRootTag:
    @pytest.mark.parametrize(
        ("content", "tag"),
        [
            ("<?xml version='1.0'?>\n<!-- ours -->\n<annotation><object", "annotation"),
            ("<svg/>", "svg"),
            ("", None),
            ("no xml", None),
            ("<?xml version='1.0' encoding='nonsense'?><a/>", None),
        ],
    )
    def test_from_the_beginning_alone(self, tmp_path: Path, content: str, tag: str | None) -> None:
        assert root_tag(written(tmp_path, content)) == tag

    def test_missing_file(self, tmp_path: Path) -> None:
        assert root_tag(tmp_path / "a.xml") is None
