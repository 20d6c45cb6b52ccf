"""The API server: the only thing that is asked of it is to change labels and annotations of this node."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from gosudacon.base.errors import Error

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod has the token of its service account, which the kubelet renews, and the cluster's certificate."""
_PATIENCE = 20.0  # seconds


class Cluster:
    """The API server at ``host`` and ``port``; ``node`` is the name of this pod's node."""

    def __init__(self, host: str, port: str, node: str, account: Path = ACCOUNT) -> None:
        name = f"[{host}]" if ":" in host else host
        self._url = f"https://{name}:{port}/api/v1/nodes/{node}"
        self._account = account

    def note(self, labels: Mapping[str, str | None], annotations: Mapping[str, str | None]) -> str:
        """Set labels and annotations of the node, remove those that are None. Returns the name of its engine.

        That is ``status.nodeInfo.containerRuntimeVersion``, such as ``containerd://1.7.2``. Raises `Error`.
        """
        body = {"metadata": {"labels": dict(labels), "annotations": dict(annotations)}}
        try:
            request = urllib.request.Request(
                self._url,
                json.dumps(body).encode(),
                {
                    "Authorization": f"Bearer {(self._account / 'token').read_text().strip()}",
                    "Content-Type": "application/merge-patch+json",
                    "Accept": "application/json",
                },
                method="PATCH",
            )
            context = ssl.create_default_context(cafile=str(self._account / "ca.crt"))
            handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
            with urllib.request.build_opener(*handlers).open(request, timeout=_PATIENCE) as answer:
                return str(json.load(answer)["status"]["nodeInfo"]["containerRuntimeVersion"])
        except urllib.error.HTTPError as error:
            hint = "is the ClusterRoleBinding there?" if error.code == 403 else ""
            raise Error(f"the API server refuses to label the node: {error.code} {error.reason}", hint=hint) from error
        except (KeyError, TypeError, ValueError) as error:
            raise Error(f"the API server's answer is not a node: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            raise Error(f"the API server does not answer: {getattr(error, 'reason', error)}") from error
