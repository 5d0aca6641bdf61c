"""What differs between the surroundings of two trainings: code, versions, processor, device."""

from __future__ import annotations

import torch

from inflate3d.config import TrainingConfig
from inflate3d.provenance.code import Code, this_code
from inflate3d.provenance.machine import Machine, this_machine
from inflate3d.provenance.record import Provenance


def other_surroundings(record: Provenance, training: TrainingConfig) -> list[str]:
    """What was otherwise in the sessions of a run, in words; nothing where all is as it was.

    Args:
        record: The run's.
        training: How it is to be trained on this machine.
    """
    machine, code = this_machine(chosen_device(training)), this_code()
    found: dict[str, None] = {}
    for session in record.sessions:
        found |= dict.fromkeys([*_other_code(session.code, code), *_other_machine(session.machine, machine)])
    return list(found)


def chosen_device(training: TrainingConfig) -> torch.device:
    """The kind of device that a training would take here."""
    wanted = training.accelerator
    if wanted in ("auto", "gpu") and torch.cuda.is_available():
        return torch.device("cuda")
    if wanted in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def _other_code(before: Code, now: Code) -> list[str]:
    told = []
    if before.version != now.version:
        told.append(f"inflate3d {before.version} then, {now.version} now")
    if before.commit != now.commit:
        told.append(f"inflate3d's commit {before.commit or 'unknown'} then, {now.commit or 'unknown'} now")
    if before.modified or now.modified:
        when = " and ".join(when for when, code in (("then", before), ("now", now)) if code.modified)
        told.append(f"inflate3d's source had changes that no commit holds, {when}")
    return told


def _other_machine(before: Machine, now: Machine) -> list[str]:
    pairs: dict[str, tuple[object, object]] = {
        "operating system": (_kind(before.system), _kind(now.system)),
        "processor": (before.processor, now.processor),
        "device": (before.device, now.device),
        "driver": (before.driver, now.driver),
    }
    if before.on_cpu and now.on_cpu:
        pairs["threads"] = before.threads, now.threads
    for name in sorted(before.versions.keys() | now.versions.keys()):
        pairs[name] = before.versions.get(name), now.versions.get(name)
    return [f"{name} {old or 'none'} then, {new or 'none'} now" for name, (old, new) in pairs.items() if old != new]


def _kind(system: str) -> str:
    """System and architecture, without the kernel's release, on which no result depends."""
    name, *_, architecture = system.split()
    return f"{name} {architecture}"
