"""The schema that `GET /openapi.json` gives, held against the server itself."""

import subprocess
import sys
from pathlib import Path

from tests.helpers.servers import Running, stub_server

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,negative_data_rejection,unsupported_method,ignored_auth"  # noqa: E501


def test_the_server_does_what_its_schema_says_and_asks_for_its_key(folder: Path, tmp_path: Path) -> None:
    with stub_server(folder, api_key="sesame") as server:
        schema = server.get("/openapi.json", headers={"authorization": "Bearer sesame"}).json()
        kinds = schema["components"]["securitySchemes"]
        assert [kind["scheme"] for kind in kinds.values()] == ["bearer"]
        assert schema["paths"]["/models"]["get"]["security"] == [{name: []} for name in kinds]
        assert "security" not in schema["paths"]["/health/live"]["get"]
        command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{server.address}/openapi.json"]
        command += ["--header", "Authorization: Bearer sesame", "--checks", CHECKS, "--max-examples", "20"]
        command += ["--seed", "1", "--generation-database", "none", "--no-color"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert not server.events("error")


def test_the_schema_is_complete(stub: Running) -> None:
    schema = stub.get("/openapi.json").json()
    assert {*schema["paths"]} == {
        "/predict",
        "/models/{model}/predict",
        "/models",
        "/health/live",
        "/health/ready",
        "/metrics",
    }
    predict = schema["paths"]["/predict"]["post"]
    assert {*predict["responses"]} == {
        str(status) for status in (200, 400, 401, 403, 404, 408, 413, 421, 422, 429, 500, 503, 504)
    }
    assert {*predict["requestBody"]["content"]} >= {"multipart/form-data", "image/jpeg", "application/octet-stream"}
    ranges = {parameter["name"]: parameter["schema"] for parameter in predict["parameters"]}
    assert (ranges["top"]["minimum"], ranges["top"]["maximum"], ranges["top"]["default"]) == (1, 1000, 5)
    assert {*ranges} == {"top", "coverage", "embedding", "explanation"}
