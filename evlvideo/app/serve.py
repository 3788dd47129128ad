"""Serve the page until the program is told to end, and remove what was uploaded."""

import importlib.util
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import Any

from evlvideo.errors import Interrupted, UserError
from evlvideo.processes import interrupted_by_signals

PORT = 7860
UPLOAD_MEGABYTES = 200
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def check_installed() -> None:
    """Check that Gradio is installed, before anything is opened.

    Raises:
        UserError: it is not.
    """
    if importlib.util.find_spec("gradio") is None:
        raise UserError("The page needs Gradio, which is not installed; install it with: pip install 'evlvideo[app]'")


def check_address(host: str, port: int) -> None:
    """Check that an address can be served.

    Raises:
        UserError: it is not this machine's, or the port is taken or not allowed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(found[0][0], socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(found[0][4])
    except OSError as error:
        raise UserError(
            f"The page cannot be served at {host}, port {port}: {error.strerror or error}. Give another --port, or "
            "another --host: 127.0.0.1 for this machine alone, 0.0.0.0 for all that reach it."
        ) from error


def serve(
    names: Sequence[str],
    *,
    overrides: Sequence[str] = (),
    host: str = LOOPBACK[0],
    port: int = PORT,
    upload_megabytes: int = UPLOAD_MEGABYTES,
    ready: Callable[[str], None],
) -> None:
    """Open checkpoints and serve their page until SIGINT or SIGTERM. Call it in the main thread.

    Nothing is loaded from elsewhere, nothing is reported, and uploads end with the program.

    Args:
        names: runs, checkpoint directories, hub names, or `mini`.
        overrides: `key=value` changes to the runs' configs.
        host: address to listen at.
        port: port to listen at.
        upload_megabytes: largest file that is taken.
        ready: called with the page's address once it can be opened.

    Raises:
        UserError: Gradio is not installed, the address cannot be served, or a checkpoint cannot be opened.
        Interrupted: a signal came before the page was there.
    """
    check_installed()
    check_address(host, port)
    with interrupted_by_signals(), tempfile.TemporaryDirectory(prefix="evlvideo-app-") as uploads:
        from evlvideo.app.explain import open_all
        from evlvideo.processes import join_processes

        join_processes()
        checkpoints = open_all(names, overrides)
        page = start_page(checkpoints, uploads, host=host, port=port, upload_megabytes=upload_megabytes)
        try:
            ready(page.local_url)
            threading.Event().wait()
        except (KeyboardInterrupt, Interrupted):
            pass  # the way to end it
        finally:
            page.close(verbose=False)


def start_page(checkpoints: Sequence[Any], uploads: str, *, host: str, port: int | None, upload_megabytes: int) -> Any:
    """Start the page of open checkpoints in a thread, and return Gradio's `Blocks`.

    Args:
        checkpoints: those of :class:`evlvideo.app.explain.OpenCheckpoint`.
        uploads: directory to keep uploaded files in.
        host: address to listen at.
        port: port to listen at. If None, Gradio takes a free one.
        upload_megabytes: largest file that is taken.
    """
    _set_up(uploads, host)
    import gradio

    from evlvideo.app.page import build_page, look

    page = build_page(checkpoints)
    page.launch(
        server_name=f"[{host}]" if ":" in host else host,
        server_port=port,
        max_file_size=f"{upload_megabytes}mb",
        share=False,
        # Else Gradio gives up if the page does not answer within three seconds, as on a busy machine.
        _frontend=False,
        inbrowser=False,
        quiet=True,
        prevent_thread_lock=True,
        footer_links=["api"],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        **look(gradio),
    )
    return page


def _set_up(uploads: str, host: str) -> None:
    """Set what Gradio reads from the environment, before it is imported."""
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": uploads}
    # It asks itself whether it is there, and not through a proxy.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), *LOOPBACK, host]))
