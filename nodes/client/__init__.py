"""Producer, consumers and administration for RocketMQ's protocol."""
