"""Apache RocketMQ itself: its releases on this machine, and the plug that makes one a system under test."""
