import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicBoolean;

import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.client.impl.producer.TopicPublishInfo;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.RPCHook;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/**
 * The clients of one client host, as RocketMQ's own Java client makes them.
 *
 * Arguments: KEY=VALUE, see Settings. Commands come on standard input, one a line, words apart by one blank: a number
 * that the answer repeats, the verb, its arguments. Answers go to standard output, one JSON object a line, in any
 * order. The program ends when its input ends.
 *
 * Besides what the client returned or threw, an answer lists every request of the operation that the client handed to
 * its transport, with the address and the code of the reply. The client calls its hook before it writes a request, so
 * an operation without any such request sent nothing.
 */
public final class Worker {
    /** As many bytes of a body as can hold a value of the lab, with the blank behind it. */
    private static final int HEAD_BYTES = 48;
    private static final byte PADDING = '.';
    private static final PrintStream OUT = utf8(new FileOutputStream(FileDescriptor.out));

    private final Settings settings;
    private final Map<String, LogicalClient> clients = new ConcurrentHashMap<>();
    private final AtomicBoolean warm = new AtomicBoolean();
    private final ExecutorService threads = Executors.newCachedThreadPool(work -> {
        Thread made = new Thread(work, "operation");
        made.setDaemon(true);
        return made;
    });

    private Worker(Settings settings) {
        this.settings = settings;
    }

    public static void main(String[] args) throws IOException {
        System.setOut(System.err); // nothing but answers may stand between them
        new Worker(new Settings(args)).serve();
        Runtime.getRuntime().halt(0); // the clients' threads are of no interest any more
    }

    private void serve() throws IOException {
        say("{\"ready\":true}");
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split(" ");
            threads.execute(() -> answer(words));
        }
    }

    private void answer(String[] words) {
        Operation operation = Operation.begin();
        String told;
        try {
            told = "\"ok\":" + perform(words[1], Arrays.copyOfRange(words, 2, words.length));
        } catch (Throwable failure) {
            told = "\"error\":" + described(failure);
        }
        say("{\"id\":" + words[0] + "," + told + ",\"calls\":" + operation.end() + "}");
    }

    private String perform(String verb, String[] words) throws Exception {
        if (verb.equals("open")) {
            LogicalClient made = new LogicalClient(settings, words[1]);
            if (warm.compareAndSet(false, true)) {
                made.warmUp();
            }
            clients.put(words[0], made);
            return "{}";
        }
        LogicalClient client = verb.equals("close") ? clients.remove(words[0]) : clients.get(words[0]);
        if (client == null) {
            throw new IllegalArgumentException("no client " + words[0]);
        }
        switch (verb) {
            case "close":
                client.close();
                return "{}";
            case "send":
                return client.send(queue(words, 1), Integer.parseInt(words[4]), message(words[1], words, 5));
            case "send-anywhere":
                return client.sendAnywhere(Integer.parseInt(words[2]), message(words[1], words, 3));
            case "pull":
                return client.pull(words[1], queue(words, 2), Long.parseLong(words[5]), Integer.parseInt(words[6]),
                    Long.parseLong(words[7]), words[8].equals("master"));
            case "committed":
                return client.committed(words[1], queue(words, 2));
            case "commit":
                return client.commit(words[1], queue(words, 2), Long.parseLong(words[5]));
            case "bounds":
                return client.bounds(queue(words, 1));
            default:
                throw new IllegalArgumentException("no verb " + verb);
        }
    }

    private static MessageQueue queue(String[] words, int at) {
        return new MessageQueue(words[at], words[at + 1], Integer.parseInt(words[at + 2]));
    }

    /** The words are the value, the size of the body, and whether to wait for flush and replica. */
    private static Message message(String topic, String[] words, int at) {
        byte[] head = (words[at] + " ").getBytes(StandardCharsets.US_ASCII);
        byte[] body = Arrays.copyOf(head, Math.max(head.length, Integer.parseInt(words[at + 1])));
        Arrays.fill(body, head.length, body.length, PADDING);
        Message made = new Message(topic, body);
        made.setWaitStoreMsgOK(words[at + 2].equals("wait"));
        return made;
    }

    private static synchronized void say(String line) {
        OUT.println(line);
        OUT.flush();
    }

    private static PrintStream utf8(FileOutputStream file) {
        try {
            return new PrintStream(file, false, "UTF-8");
        } catch (java.io.UnsupportedEncodingException impossible) {
            throw new IllegalStateException(impossible);
        }
    }

    private static String described(Throwable failure) {
        int code = 0;
        if (failure instanceof MQBrokerException) {
            code = ((MQBrokerException) failure).getResponseCode();
        } else if (failure instanceof MQClientException) {
            code = ((MQClientException) failure).getResponseCode();
        }
        return "{\"class\":" + quoted(failure.getClass().getSimpleName()) + ",\"code\":" + code + ",\"text\":"
            + quoted(String.valueOf(failure.getMessage())) + "}";
    }

    static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (int at = 0; at < text.length(); at++) {
            char one = text.charAt(at);
            if (one == '"' || one == '\\') {
                out.append('\\').append(one);
            } else if (one < ' ' || one > '~') {
                out.append(String.format("\\u%04x", (int) one));
            } else {
                out.append(one);
            }
        }
        return out.append('"').toString();
    }

    /** What all clients of this program share. */
    private static final class Settings {
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
    }

    /** One request that the client handed to its transport. */
    private static final class Call {
        final String address;
        final int request;
        final int opaque;
        final long began = System.nanoTime();
        volatile long ended;
        volatile Integer code;
        volatile String epoch;

        Call(String address, RemotingCommand request) {
            this.address = address;
            this.request = request.getCode();
            this.opaque = request.getOpaque();
        }

        String json() {
            long until = ended == 0 ? System.nanoTime() : ended;
            return "{\"address\":" + quoted(address) + ",\"request\":" + request + ",\"code\":" + code + ",\"ms\":"
                + (until - began) / 1_000_000 + ",\"epoch\":" + (epoch == null ? "null" : quoted(epoch)) + "}";
        }
    }

    /** All requests of one operation. The client writes them in the thread that called it. */
    private static final class Operation {
        private static final ThreadLocal<Operation> CURRENT = new ThreadLocal<>();
        private static final Map<Integer, Call> OPEN = new ConcurrentHashMap<>();

        private final List<Call> calls = new ArrayList<>();

        static Operation begin() {
            Operation made = new Operation();
            CURRENT.set(made);
            return made;
        }

        String end() {
            CURRENT.remove();
            List<String> told = new ArrayList<>();
            for (Call call : calls) {
                OPEN.remove(call.opaque);
                told.add(call.json());
            }
            return "[" + String.join(",", told) + "]";
        }

        static final RPCHook HOOK = new RPCHook() {
            @Override
            public void doBeforeRequest(String address, RemotingCommand request) {
                Operation operation = CURRENT.get();
                if (operation != null) {
                    Call call = new Call(String.valueOf(address), request);
                    operation.calls.add(call);
                    OPEN.put(call.opaque, call);
                }
            }

            @Override
            public void doAfterResponse(String address, RemotingCommand request, RemotingCommand response) {
                Call call = OPEN.get(request.getOpaque());
                if (call != null && response != null) {
                    call.epoch = response.getExtFields() == null ? null : response.getExtFields().get("epoch");
                    call.ended = System.nanoTime();
                    call.code = response.getCode();
                }
            }
        };
    }

    /** A producer, and a pull consumer for each group it reads for, on one set of connections. */
    private static final class LogicalClient {
        private static final int NEVER_MS = 24 * 3600 * 1000;

        private final Settings settings;
        private final String instance;
        private final DefaultMQProducer producer;
        private final Map<String, DefaultMQPullConsumer> consumers = new HashMap<>();

        LogicalClient(Settings settings, String instance) throws MQClientException {
            this.settings = settings;
            this.instance = instance;
            producer = new DefaultMQProducer(settings.text("producer"), Operation.HOOK);
            configure(producer);
            producer.setRetryTimesWhenSendFailed(settings.number("retries"));
            producer.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
            producer.getDefaultMQProducerImpl().getTopicPublishInfoTable()
                .putIfAbsent(settings.text("topic"), new TopicPublishInfo()); // its route is polled, as of a used topic
            producer.start();
            factory().getMQAdminImpl().setTimeoutMillis(settings.number("timeout"));
        }

        private void configure(ClientConfig config) {
            config.setNamesrvAddr(settings.text("names"));
            config.setClientIP(settings.text("address"));
            config.setInstanceName(instance);
            config.setPollNameServerInterval(settings.number("poll"));
            config.setMqClientApiTimeout(settings.number("timeout"));
            config.setPersistConsumerOffsetInterval(NEVER_MS); // offsets are committed when the lab says so
            config.setVipChannelEnabled(false);
        }

        private MQClientInstance factory() {
            return producer.getDefaultMQProducerImpl().getMqClientFactory();
        }

        /** Load what a first send would have to load; nobody has this name, so nothing is sent. */
        void warmUp() {
            try {
                String topic = settings.text("topic");
                send(new MessageQueue(topic, "nobody-of-this-name", 0), 1000, new Message(topic, new byte[1]));
            } catch (Exception expected) {
                return;
            }
        }

        void close() {
            producer.shutdown();
            synchronized (consumers) {
                for (DefaultMQPullConsumer consumer : consumers.values()) {
                    consumer.shutdown();
                }
            }
        }

        String send(MessageQueue queue, int timeoutMs, Message message) throws Exception {
            return told(producer.send(message, queue, timeoutMs));
        }

        String sendAnywhere(int timeoutMs, Message message) throws Exception {
            return told(producer.send(message, timeoutMs));
        }

        private static String told(SendResult result) {
            MessageQueue queue = result.getMessageQueue();
            return "{\"status\":" + quoted(result.getSendStatus().name()) + ",\"id\":" + quoted(result.getMsgId())
                + ",\"offsetId\":" + quoted(String.valueOf(result.getOffsetMsgId())) + ",\"broker\":"
                + quoted(queue.getBrokerName()) + ",\"queue\":" + queue.getQueueId() + ",\"offset\":"
                + result.getQueueOffset() + "}";
        }

        String pull(String group, MessageQueue queue, long offset, int most, long timeoutMs, boolean masterOnly)
            throws Exception {
            DefaultMQPullConsumer consumer = consumer(group);
            String master = master(queue);
            if (masterOnly) {
                if (master == null) {
                    throw new MQClientException(10003, "no master of " + queue.getBrokerName() + " is known");
                }
                consumer.getDefaultMQPullConsumerImpl().getPullAPIWrapper().updatePullFromWhichNode(queue, 0);
            }
            PullResult result = consumer.pull(queue, "*", offset, most, timeoutMs);
            StringBuilder found = new StringBuilder();
            if (result.getMsgFoundList() != null) {
                for (MessageExt message : result.getMsgFoundList()) {
                    byte[] body = message.getBody();
                    String head = new String(body, 0, Math.min(body.length, HEAD_BYTES), StandardCharsets.ISO_8859_1);
                    found.append(found.length() == 0 ? "" : ",");
                    found.append("[" + message.getQueueOffset() + "," + quoted(head) + ","
                        + (body.length - head.length()) + "," + isPadding(body, head.length()) + "]");
                }
            }
            return "{\"status\":" + quoted(result.getPullStatus().name()) + ",\"next\":" + result.getNextBeginOffset()
                + ",\"min\":" + result.getMinOffset() + ",\"max\":" + result.getMaxOffset() + ",\"master\":"
                + (master == null ? "null" : quoted(master)) + ",\"messages\":[" + found + "]}";
        }

        /** Whether a body holds nothing but padding from here on, as all bodies of the lab do behind their value. */
        private static boolean isPadding(byte[] body, int from) {
            for (int at = from; at < body.length; at++) {
                if (body[at] != PADDING) {
                    return false;
                }
            }
            return true;
        }

        /** The address of the group's master as this client knows it, asked for if it knows none; null without one. */
        private String master(MessageQueue queue) {
            String known = factory().findBrokerAddressInPublish(queue.getBrokerName());
            if (known == null) {
                factory().updateTopicRouteInfoFromNameServer(queue.getTopic());
                known = factory().findBrokerAddressInPublish(queue.getBrokerName());
            }
            return known;
        }

        String committed(String group, MessageQueue queue) throws Exception {
            DefaultMQPullConsumer consumer = consumer(group);
            long offset = consumer.fetchConsumeOffset(queue, true);
            // The client has noted it as if it were ours to commit again.
            consumer.getDefaultMQPullConsumerImpl().getOffsetStore().removeOffset(queue);
            return "{\"offset\":" + offset + "}";
        }

        String commit(String group, MessageQueue queue, long offset) throws Exception {
            consumer(group).getDefaultMQPullConsumerImpl().getOffsetStore()
                .updateConsumeOffsetToBroker(queue, offset, false);
            return "{}";
        }

        String bounds(MessageQueue queue) throws Exception {
            long low = factory().getMQAdminImpl().minOffset(queue);
            return "{\"low\":" + low + ",\"high\":" + factory().getMQAdminImpl().maxOffset(queue) + "}";
        }

        private DefaultMQPullConsumer consumer(String group) throws MQClientException {
            synchronized (consumers) {
                DefaultMQPullConsumer found = consumers.get(group);
                if (found == null) {
                    found = new DefaultMQPullConsumer(group, Operation.HOOK);
                    configure(found);
                    found.start();
                    consumers.put(group, found);
                }
                return found;
            }
        }
    }
}
