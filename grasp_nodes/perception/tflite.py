"""A TFLite network as a plain function."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from grasp_nodes.errors import InputError, MissingDependencyError


class TfliteNetwork:
    """One network, run by LiteRT on the CPU."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Load the network.

        Args:
            path: the ``.tflite`` file.
            threads: CPU threads that it may use.

        Raises:
            MissingDependencyError: LiteRT is not installed.
            InputError: the file is not a TFLite network.
        """
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingDependencyError(
                f"hand landmarks need the package ai-edge-litert ({error}): pip install 'grasp_nodes[hands]'"
            ) from error
        try:
            self._interpreter = Interpreter(str(path), num_threads=threads)
        except ValueError as error:
            raise InputError(f"{path}: not a TFLite network ({error}); delete it and fetch it again") from error
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        # By name, because the order of the list differs between converters: Identity, Identity_1, ...
        outputs = sorted(self._interpreter.get_output_details(), key=lambda detail: detail["name"])
        self._outputs = [detail["index"] for detail in outputs]

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        """Run the network once.

        Args:
            image: (1, S, S, 3) float32 in [0, 1].

        Returns:
            Outputs in the order of their names, without the batch dimension; copies.
        """
        self._interpreter.set_tensor(self._input, image)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index)[0].copy() for index in self._outputs]
