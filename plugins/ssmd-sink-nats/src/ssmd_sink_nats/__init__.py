"""NATS JetStream transport for ssmd."""
