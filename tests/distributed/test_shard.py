import pytest

from inflate3d.cli.engine_options import EngineOptions
from inflate3d.distributed.shard import Shard
from inflate3d.errors import ConfigError


@pytest.mark.parametrize("count", [1, 2, 3, 16, 40])
def test_shares_are_disjoint_and_whole(count):
    shares = [Shard(number, count).share(range(23)) for number in range(1, count + 1)]
    assert sorted(item for share in shares for item in share) == list(range(23))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_share_is_read_and_named():
    shard = Shard.parse("3/16")
    assert (shard, str(shard), shard.name) == (Shard(3, 16), "3/16", "3-of-16")


@pytest.mark.parametrize("text", ["0/16", "17/16", "0/0"])
def test_shards_are_counted_from_1(text):
    with pytest.raises(ConfigError) as caught:
        Shard.parse(text)
    assert "#SBATCH --array=1-16" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["", "3", "a/b", "-1/3", "3/16/2", "1.5/2", "/16"])
def test_what_is_no_share(text):
    with pytest.raises(ConfigError) as caught:
        Shard.parse(text)
    assert "SLURM_ARRAY_TASK_ID" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"address": "auto"}, "requires --engine ray"),
        ({"engine": "ray", "shard": "1/2"}, "can't be combined"),
    ],
)
def test_options_that_exclude_each_other(options, said):
    with pytest.raises(ConfigError, match=said):
        EngineOptions(**options).chosen_shard()
