"""What the cluster gives the pods, and what they take. Needs kube-state-metrics and the kubelets' metrics.

Kubelets tell the same of a container at /metrics/cadvisor and at /metrics/resource: `max` takes it once where both
are scraped.
"""

from charts.dashboards import links
from charts.dashboards.boards import Board, Row
from charts.dashboards.panels import Query, figure, lines, rows
from charts.dashboards.shared import PROBLEMS, RATE

_PODS = Row(
    "Pods",
    figure(
        "Containers ready",
        "Share of the containers that are ready.",
        "percentunit",
        Query("sum(kube_pod_container_status_ready{pods}) / count(kube_pod_container_status_ready{pods})"),
        below="red",
        steps=[(0.5, "yellow"), (1, "green")],
        decimals=0,
        links=PROBLEMS,
    ),
    figure(
        "Restarts",
        "Restarts of containers in the time range.",
        "short",
        Query("sum(increase(kube_pod_container_status_restarts_total{pods}[$__range]))"),
        steps=[(1, "yellow"), (5, "red")],
        decimals=0,
        links=PROBLEMS,
    ),
    figure(
        "Out of memory",
        "Containers that last ended because they ran out of memory (OOMKilled).",
        "short",
        Query('sum(kube_pod_container_status_last_terminated_reason{pods,reason="OOMKilled"}) or vector(0)'),
        steps=[(1, "red")],
    ),
    figure(
        "Waiting",
        "Containers that wait to start, for any reason.",
        "short",
        Query("sum(kube_pod_container_status_waiting{pods})"),
        steps=[(1, "yellow")],
    ),
    figure(
        "Fullest volume",
        "Used share of the fullest volume.",
        "percentunit",
        Query("max(kubelet_volume_stats_used_bytes{claims} / kubelet_volume_stats_capacity_bytes{claims})"),
        steps=[(0.7, "yellow"), (0.9, "red")],
        decimals=0,
    ),
    figure(
        "Closest to its memory limit",
        "Memory as a share of its limit, for the container that is closest to it.",
        "percentunit",
        Query(
            "max(max by (namespace, pod, container) (container_memory_working_set_bytes{pods}) / max by (namespace, pod,"
            ' container) (kube_pod_container_resource_limits{pods,resource="memory"}))'
        ),
        steps=[(0.8, "yellow"), (0.95, "red")],
        decimals=0,
    ),
    rows(
        "Pods",
        "Each container: whether it is ready, how often it was restarted, and on which node it is.",
        "short",
        Query("max by (namespace, pod, container) (kube_pod_container_status_ready{pods})"),
        Query("max by (namespace, pod, container) (kube_pod_container_status_restarts_total{pods})"),
        Query(
            "max by (namespace, pod, container, node) (kube_pod_container_info{pods} * on (namespace, pod) group_left"
            ' (node) kube_pod_info{claims,node!=""})'
        ),
        columns={
            "namespace": "Namespace",
            "pod": "Pod",
            "container": "Container",
            "node": "Node",
            "Value #A": "Ready",
            "Value #B": "Restarts",
            "Value #C": "Runs",
        },
        no_value="no pod, or no kube-state-metrics",
        links=links.to_logs(),
    ),
)

_TAKEN = Row(
    "Processor, memory and network",
    lines(
        "Processor time",
        "Processors that each container uses: 1 is one whole processor.",
        "short",
        Query(
            f"max by (pod, container) (rate(container_cpu_usage_seconds_total{{pods}}[{RATE}]))",
            "{{pod}} {{container}}",
        ),
        Query(
            'max by (container) (kube_pod_container_resource_limits{pods,resource="cpu"})',
            "limit of a {{container}}",
        ),
        width=12,
        dashed="limit.*",
    ),
    lines(
        "Throttled",
        "Share of the periods in which a container was throttled at its processor limit.",
        "percentunit",
        Query(
            f"sum by (pod, container) (rate(container_cpu_cfs_throttled_periods_total{{pods}}[{RATE}])) / sum by (pod,"
            f" container) (rate(container_cpu_cfs_periods_total{{pods}}[{RATE}]))",
            "{{pod}} {{container}}",
        ),
        width=12,
        maximum=1,
    ),
    lines(
        "Memory",
        "Working set of each container: the memory that is compared with the limit.",
        "bytes",
        Query("max by (pod, container) (container_memory_working_set_bytes{pods})", "{{pod}} {{container}}"),
        Query(
            'max by (container) (kube_pod_container_resource_limits{pods,resource="memory"})',
            "limit of a {{container}}",
        ),
        width=12,
        dashed="limit.*",
    ),
    lines(
        "Network",
        "Bytes a second that each pod receives (above) and sends (below).",
        "Bps",
        Query(
            f'sum by (pod) (rate(container_network_receive_bytes_total{{claims,pod=~"($release)-.*"}}[{RATE}]))',
            "{{pod}} in",
        ),
        Query(
            f'-sum by (pod) (rate(container_network_transmit_bytes_total{{claims,pod=~"($release)-.*"}}[{RATE}]))',
            "{{pod}} out",
        ),
        width=12,
        minimum=None,
    ),
)

_VOLUMES = Row(
    "Volumes",
    lines(
        "Used",
        "Used bytes of each claim's volume, and its capacity. On some storage, such as a directory of the node, "
        "both are those of the whole disk.",
        "bytes",
        Query(
            "max by (persistentvolumeclaim) (kubelet_volume_stats_used_bytes{claims})",
            "{{persistentvolumeclaim}}",
        ),
        Query(
            "max by (persistentvolumeclaim) (kubelet_volume_stats_capacity_bytes{claims})",
            "capacity of {{persistentvolumeclaim}}",
        ),
        width=12,
        dashed="capacity.*",
    ),
    lines(
        "Inodes used",
        "Used share of each volume's inodes, which limit how many files it can hold.",
        "percentunit",
        Query(
            "max by (persistentvolumeclaim) (kubelet_volume_stats_inodes_used{claims} /"
            " kubelet_volume_stats_inodes{claims})",
            "{{persistentvolumeclaim}}",
        ),
        width=12,
        maximum=1,
    ),
)

_SCALE = Row(
    "Replicas",
    lines(
        "Replicas of the deployments",
        "Replicas that are wanted, and replicas that are ready.",
        "short",
        Query(
            'max by (deployment) (kube_deployment_spec_replicas{claims,deployment=~"($release)-.*"})',
            "{{deployment}} wanted",
        ),
        Query(
            'max by (deployment) (kube_deployment_status_replicas_ready{claims,deployment=~"($release)-.*"})',
            "{{deployment}} ready",
        ),
        width=12,
    ),
    lines(
        "Redis",
        "Replicas of Redis' StatefulSet that are wanted, and that are ready. Empty with an external Redis.",
        "short",
        Query(
            'max by (statefulset) (kube_statefulset_replicas{claims,statefulset=~"($release)-.*"})',
            "{{statefulset}} wanted",
        ),
        Query(
            'max by (statefulset) (kube_statefulset_status_replicas_ready{claims,statefulset=~"($release)-.*"})',
            "{{statefulset}} ready",
        ),
        width=12,
    ),
)

KUBERNETES = Board(
    "kubernetes",
    "Telemetry pipeline / Kubernetes",
    "Pods, and the processor time, memory and volumes that they use. Needs kube-state-metrics and the metrics of "
    "the kubelets.",
    (_PODS, _TAKEN, _VOLUMES, _SCALE),
    needs_namespace=True,
)
