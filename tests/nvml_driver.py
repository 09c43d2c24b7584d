"""A stand-in for the driver's C library (libnvidia-ml.so): the real pynvml calls it, as it calls the real one."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import pynvml

GIB = 2**30


@dataclass
class Card:
    name: str
    uuid: str
    total: int
    free: int
    pids: tuple[int, ...] = ()
    mig: int = 0
    broken: bool = False


class Driver:
    """The functions that we need, with C's calling convention: an error code, answers through pointers."""

    def __init__(self, *cards: Card) -> None:
        self.cards = cards

    def nvmlInitWithFlags(self, flags: int) -> int:  # noqa: N802
        return pynvml.NVML_SUCCESS

    def nvmlShutdown(self) -> int:  # noqa: N802
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self.cards)
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> int:  # noqa: N802
        ctypes.cast(ctypes.pointer(handle._obj), ctypes.POINTER(ctypes.c_size_t))[0] = index.value + 1
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetHandleByUUID(self, uuid: Any, handle: Any) -> int:  # noqa: N802
        for index, card in enumerate(self.cards):
            if card.uuid.encode() == uuid.value:
                ctypes.cast(ctypes.pointer(handle._obj), ctypes.POINTER(ctypes.c_size_t))[0] = index + 1
                return pynvml.NVML_SUCCESS
        return pynvml.NVML_ERROR_NOT_FOUND

    def _card(self, handle: Any) -> Card:
        return self.cards[ctypes.cast(ctypes.pointer(handle), ctypes.POINTER(ctypes.c_size_t))[0] - 1]

    def nvmlDeviceGetMemoryInfo(self, handle: Any, memory: Any) -> int:  # noqa: N802
        card = self._card(handle)
        if card.broken:
            return pynvml.NVML_ERROR_GPU_IS_LOST
        memory._obj.total, memory._obj.free, memory._obj.used = card.total, card.free, card.total - card.free
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetUUID(self, handle: Any, buffer: Any, size: Any) -> int:  # noqa: N802
        buffer.value = self._card(handle).uuid.encode()
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetName(self, handle: Any, buffer: Any, size: Any) -> int:  # noqa: N802
        buffer.value = self._card(handle).name.encode()
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle: Any, count: Any, processes: Any) -> int:  # noqa: N802
        pids = self._card(handle).pids
        if not pids:
            count._obj.value = 0
            return pynvml.NVML_SUCCESS
        if processes is None:
            count._obj.value = len(pids)
            return pynvml.NVML_ERROR_INSUFFICIENT_SIZE
        count._obj.value = len(pids)
        for slot, pid in zip(processes, pids, strict=False):
            slot.pid = pid
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetCudaComputeCapability(self, handle: Any, major: Any, minor: Any) -> int:  # noqa: N802
        major._obj.value, minor._obj.value = 9, 0
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetMigMode(self, handle: Any, current: Any, pending: Any) -> int:  # noqa: N802
        current._obj.value = pending._obj.value = self._card(handle).mig
        return pynvml.NVML_SUCCESS
