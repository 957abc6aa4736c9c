import java.util.HashMap;
import java.util.Map;

import org.apache.rocketmq.client.ClientConfig;

/** What all clients of this program share. */
final class Settings {
    private static final int NEVER_MS = 24 * 3600 * 1000;
    private final Map<String, String> given = new HashMap<>();

    Settings(String[] args) {
        for (String arg : args) {
            int equals = arg.indexOf('=');
            given.put(arg.substring(0, equals), arg.substring(equals + 1));
        }
    }

    String text(String key) {
        String value = given.get(key);
        if (value == null) {
            throw new IllegalArgumentException("argument missing: " + key + "=...");
        }
        return value;
    }

    int number(String key) {
        return Integer.parseInt(text(key));
    }

    /** What producers and consumers have in common; offsets are committed when the lab says so. */
    void configure(ClientConfig config, String instance) {
        config.setNamesrvAddr(text("names"));
        config.setClientIP(text("address"));
        config.setInstanceName(instance);
        config.setPollNameServerInterval(number("poll"));
        config.setMqClientApiTimeout(number("timeout"));
        config.setPersistConsumerOffsetInterval(NEVER_MS);
        config.setVipChannelEnabled(false);
    }
}
