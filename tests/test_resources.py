"""Limits of containers and batch systems, from a made-up /proc and /sys."""

import os

import pytest

from inflate3d.resources import count_cores, free_memory, total_memory

GIB = 2**30
MEMINFO = {"MemTotal": 64 * GIB, "MemAvailable": 40 * GIB}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Writes a machine of 64 GiB, 40 of them free, and 16 cores; and the files of its cgroups."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)

    def write(cgroup="", **files):
        lines = "".join(f"{name}:  {size // 1024} kB\n" for name, size in MEMINFO.items())
        contents = {"proc/meminfo": lines + "HugePages_Total:       0\n", "proc/self/cgroup": cgroup}
        for name, text in (contents | {f"sys/fs/cgroup/{name}": text for name, text in files.items()}).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}")
        return tmp_path

    return write


def figures(root):
    return count_cores(root), total_memory(root), free_memory(root)


def test_machine_without_limits(machine):
    assert figures(machine("0::/user.slice\n")) == (16, 64 * GIB, 40 * GIB)
    root = machine("0::/user.slice\n", **{"user.slice/memory.max": "max\n", "user.slice/cpu.max": "max 100000\n"})
    assert figures(root) == (16, 64 * GIB, 40 * GIB)


def test_cgroup_version_2(machine):
    files = {
        "memory.max": f"{8 * GIB}\n",
        "memory.current": f"{5 * GIB}\n",
        "memory.stat": f"anon 1\ninactive_file {2 * GIB}\n",
        "cpu.max": "250000 100000\n",
    }
    assert figures(machine("0::/\n", **files)) == (3, 8 * GIB, 5 * GIB)


def test_cgroup_version_1(machine):
    files = {
        "memory/slurm/job_7/memory.limit_in_bytes": f"{8 * GIB}\n",
        "memory/slurm/job_7/memory.usage_in_bytes": f"{5 * GIB}\n",
        "memory/slurm/job_7/memory.stat": f"inactive_file 7\ntotal_inactive_file {2 * GIB}\n",
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
        "cpu/slurm/job_7/cpu.cfs_quota_us": "200000\n",
        "cpu/slurm/job_7/cpu.cfs_period_us": "100000\n",
        "cpu/cpu.cfs_quota_us": "-1\n",
        "cpu/cpu.cfs_period_us": "100000\n",
    }
    cgroup = "9:memory:/slurm/job_7\n4:cpu,cpuacct:/slurm/job_7\n3:pids:/\n"
    assert figures(machine(cgroup, **files)) == (2, 8 * GIB, 5 * GIB)


def test_version_1_in_a_container_that_sees_its_own_cgroup_as_the_root(machine):
    root = machine("9:memory:/docker/4f3a\n", **{"memory/memory.limit_in_bytes": f"{GIB}\n"})
    assert total_memory(root) == GIB


@pytest.mark.parametrize("limited", ["a/b", "a", ""])
def test_limits_of_outer_cgroups_apply(machine, limited):
    names = {"a/b/memory.max": "max\n", f"{limited}/memory.max": f"{GIB}\n"}
    assert total_memory(machine("0::/a/b\n", **names)) == GIB


def test_limit_above_the_machine(machine):
    assert figures(machine("0::/\n", **{"memory.max": f"{99 * GIB}", "cpu.max": "9900000 100000"})) == (
        16,
        64 * GIB,
        40 * GIB,
    )


def test_cgroup_outside_of_the_container(machine):
    assert total_memory(machine("0::/../../other\n", **{"memory.max": f"{GIB}\n"})) == GIB


def test_less_than_a_core_is_one(machine):
    assert count_cores(machine("0::/\n", **{"cpu.max": "10000 100000"})) == 1


def test_system_without_proc(tmp_path):
    assert free_memory(tmp_path) is None
    assert count_cores(tmp_path) >= 1


def test_this_machine():
    total, free = total_memory(), free_memory()
    assert total is not None and free is not None
    assert 2**26 < free <= total
