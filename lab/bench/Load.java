import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.lang.management.ManagementFactory;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;

import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;

/**
 * Bench clients of RocketMQ's Java client: arguments are the name server, a topic, measured seconds, seconds of warm-up,
 * then numbers of clients. A client is a thread with one outstanding send of 300 bytes; all share one producer, as those
 * of an application do. For each number one JSON object goes to standard output.
 */
public final class Load {
    private static final byte[] BODY = new byte[300];

    private Load() {
    }

    public static void main(String[] args) throws Exception {
        PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), true, "UTF-8");
        System.setOut(System.err);
        Arrays.fill(BODY, (byte) 'x');
        DefaultMQProducer producer = new DefaultMQProducer("bench");
        producer.setNamesrvAddr(args[0]);
        producer.setRetryTimesWhenSendFailed(0);
        producer.setSendMsgTimeout(10_000);
        producer.start();
        double seconds = Double.parseDouble(args[2]);
        List<String> numbers = Arrays.asList(args).subList(4, args.length);
        int most = numbers.stream().mapToInt(Integer::parseInt).max().getAsInt(); // few sends would not get code compiled
        measure(producer, args[1], most, Double.parseDouble(args[3])); // not counted
        for (String clients : numbers) {
            out.println(measure(producer, args[1], Integer.parseInt(clients), seconds));
        }
        Runtime.getRuntime().halt(0);
    }

    private static String measure(DefaultMQProducer producer, String topic, int clients, double seconds)
        throws InterruptedException {
        List<Client> all = new ArrayList<>();
        long cpu = cpuNanos();
        long began = System.nanoTime();
        for (int number = 0; number < clients; number++) {
            Client client = new Client(producer, topic, began + (long) (seconds * 1e9));
            all.add(client);
            client.start();
        }
        int acked = 0;
        int weak = 0;
        int failed = 0;
        List<Long> waits = new ArrayList<>();
        for (Client client : all) {
            client.join();
            acked += client.acked;
            weak += client.weak;
            failed += client.failed;
            waits.addAll(client.waits);
        }
        double took = (System.nanoTime() - began) / 1e9;
        waits.sort(null);
        double median = waits.isEmpty() ? 0 : waits.get(waits.size() / 2) / 1e6;
        return String.format(Locale.ROOT, "{\"clients\":%d,\"acks_per_s\":%.1f,\"weak\":%d,\"failed\":%d,\"p50_ms\":%.3f,"
            + "\"cpu_share\":%.3f}", clients, acked / took, weak, failed, median, (cpuNanos() - cpu) / 1e9 / took);
    }

    private static long cpuNanos() {
        return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean())
            .getProcessCpuTime();
    }

    private static final class Client extends Thread {
        private final DefaultMQProducer producer;
        private final String topic;
        private final long until;
        private final List<Long> waits = new ArrayList<>();
        private int acked;
        private int weak;
        private int failed;

        Client(DefaultMQProducer producer, String topic, long until) {
            this.producer = producer;
            this.topic = topic;
            this.until = until;
        }

        @Override
        public void run() {
            for (long began = System.nanoTime(); began < until; began = System.nanoTime()) {
                try {
                    SendResult result = producer.send(new Message(topic, BODY));
                    if (result.getSendStatus() == SendStatus.SEND_OK) {
                        acked++;
                    } else {
                        weak++;
                    }
                    waits.add(System.nanoTime() - began);
                } catch (Exception refused) { // whatever was refused is not counted as acknowledged
                    failed++;
                }
            }
        }
    }
}
