import pytest

from inflate3d.datasets.case_table import Row, read_table, write_table
from inflate3d.errors import DataError, DatasetProblems

HEADER = "case,image,label,split,group"


@pytest.fixture
def table(tmp_path):
    """Writes a table of the given lines."""

    def write(*lines, encoding="utf-8", separator=","):
        path = tmp_path / "cases.csv"
        path.write_text("\n".join(lines).replace(",", separator), encoding=encoding)
        return path

    return write


def problems(path):
    with pytest.raises(DatasetProblems) as caught:
        read_table(path)
    assert {problem.file for problem in caught.value.problems} == {str(path)}
    return [(problem.what, problem.got, problem.case) for problem in caught.value.problems]


ROWS = (
    Row("a b", ("images/a, b.nii.gz", None), "labels/a.nii.gz", "train", "Zoë"),
    Row('c"d', ("x.nrrd", "y.nrrd"), "z.mha", "test", None),
)


def test_written_table_reads_back(tmp_path):
    write_table(tmp_path / "cases.csv", ROWS)
    assert read_table(tmp_path / "cases.csv") == list(ROWS)


def test_columns_appear_where_they_are_needed(tmp_path):
    write_table(tmp_path / "cases.csv", [Row("a", ("b",), "c")])
    assert (tmp_path / "cases.csv").read_text(encoding="utf-8") == "case,image,label\na,b,c\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_as_spreadsheets_save_it(table, separator, encoding):
    lines = ["Label, Image ,CASE,Split,,", "l.nii,ï.nii, a ,Training,,", ",,,,,", "m.nii,j.nii,b,VAL"]
    assert read_table(table(*lines, encoding=encoding, separator=separator)) == [
        Row("a", ("ï.nii",), "l.nii", "train"),
        Row("b", ("j.nii",), "m.nii", "validation"),
    ]


@pytest.mark.parametrize(
    ("written", "part"),
    [("train", "train"), ("training", "train"), ("val", "validation"), ("Valid", "validation"), ("TEST", "test")],
)
def test_parts_of_the_split(table, written, part):
    assert read_table(table(HEADER, f"a,i,l,{written},"))[0].part == part


def test_all_mistakes_are_reported_at_once_by_row_and_column(table):
    lines = [
        HEADER,
        "a,,l,train,p",
        "",
        "b,i,,val,p",
        ",i,l,train,",
        "d,i,l,trian,",
        "e,i,l,,",
        "f,i,l,test,,,x",
        "f,i,l,test,",
    ]
    assert problems(table(*lines)) == [
        ("empty cell", "row 2, column image: nothing", "a"),
        ("empty cell", "row 4, column label: nothing", "b"),
        ("empty cell", "row 5, column case: nothing", None),
        ("unknown part of the split", "row 6, column split: trian", "d"),
        ("a row has more cells than the header has columns", "row 8: 2 more", "f"),
        ("duplicate case name", "rows 8, 9, column case: f", "f"),
        ("the case is not assigned to a part of the split", "row 7, column split: nothing", "e"),
        ("the split separates a group", "cases of p in train and validation", None),
    ]


@pytest.mark.parametrize(
    ("header", "wrong"),
    [
        ("case,image", "no column label"),
        ("case;label", "no column image"),
        ("case,image,label,age", "a column age"),
        ("case,image,image3,label", "no column image2"),
        ("case,image,label,label", "the column label twice"),
        ("case,image,image,label", "the column image twice"),
        ("case,image,,label", "a column (no name)"),
    ],
)
def test_wrong_header(table, header, wrong):
    with pytest.raises(DataError, match="does not have the columns") as caught:
        read_table(table(header, "a,b,c"))
    assert str(caught.value.got).startswith(wrong)


def test_tables_that_are_none(table, tmp_path):
    with pytest.raises(DataError, match="can't be read"):
        read_table(tmp_path / "cases.csv")
    with pytest.raises(DataError, match="is empty"):
        read_table(table(""))
    with pytest.raises(DataError, match="no case is listed"):
        read_table(table(HEADER))
    with pytest.raises(DataError, match="is not a table"):
        read_table(table(HEADER, 'a,"i,l'))
    with pytest.raises(DataError, match="not text in UTF-8") as caught:
        read_table(table(HEADER, "ä,i,l", encoding="latin-1"))
    assert "CSV UTF-8" in str(caught.value.hint)


@pytest.mark.parametrize(
    "content",
    [
        "case,image,label\n" + "a" * 200_000 + ",b,c\n",
        "case,image,label" + ",x" * 100_000 + "\n",
        "case,image,label\n" + '"' * 100_001,
        "\0" * 1000,
        "x" * ((1 << 25) + 1),
    ],
    ids=["long cell", "many columns", "quotation marks", "zeros", "too large"],
)
def test_hostile_tables(tmp_path, content):
    (tmp_path / "cases.csv").write_text(content)
    with pytest.raises(DataError) as caught:
        read_table(tmp_path / "cases.csv")
    assert caught.value.file == str(tmp_path / "cases.csv")
    assert len(str(caught.value)) < 25_000
