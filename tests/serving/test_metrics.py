"""Counters in the text format of Prometheus."""

from intermodal.serving.metrics import Metrics


def test_counters_gauges_and_histograms_are_written_as_prometheus_reads_them() -> None:
    metrics = Metrics()
    metrics.count("intermodal_requests_total", route="/x", status="200")
    metrics.count("intermodal_requests_total", 2, status="200", route="/x")
    for value in (0.5, 1.0, 3.0):
        metrics.observe("sizes", value, (1.0, 2.0), queue='a"b\n')
    lines = metrics.text({"intermodal_ready": {(): 1.0}}).splitlines()
    assert 'intermodal_requests_total{route="/x",status="200"} 3' in lines
    assert "# TYPE intermodal_ready gauge" in lines
    assert "intermodal_ready 1" in lines
    label = r'queue="a\"b\n"'
    assert [line for line in lines if line.startswith("sizes")] == [
        f'sizes_bucket{{{label},le="1"}} 2',
        f'sizes_bucket{{{label},le="2"}} 2',
        f'sizes_bucket{{{label},le="+Inf"}} 3',
        f"sizes_sum{{{label}}} 4.5",
        f"sizes_count{{{label}}} 3",
    ]
