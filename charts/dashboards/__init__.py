"""Grafana's dashboards as code: `make dashboards` writes what the chart has of them.

They stand beside the chart and not in it or in the services: neither the chart's package nor an
image needs them.
"""
