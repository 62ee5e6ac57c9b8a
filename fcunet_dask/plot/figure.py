"""A figure that Jupyter shows, without pyplot's global state."""

import io

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """A figure that is drawn where a notebook's cell ends with it."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=80)
        return buffer.getvalue()
