"""What a server tells probes that hold no certificate."""

from http.client import HTTPConnection

from prometheus_client.parser import text_string_to_metric_families


def get(port: int, path: str) -> tuple[int, str]:
    """Status and body of a page of the loopback listener."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def metrics_of(port: int) -> dict[str, float]:
    """Samples without labels, by name."""
    _, text = get(port, "/metrics")
    families = text_string_to_metric_families(text)
    return {
        sample.name: sample.value for family in families for sample in family.samples if not sample.labels
    }
