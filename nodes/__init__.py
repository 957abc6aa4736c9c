"""The cluster under test: name servers, brokers and clients compatible with RocketMQ on the wire."""

from nodes.compiled import activate

activate()
