import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;

import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragely;
import org.apache.rocketmq.client.consumer.store.ReadOffsetType;
import org.apache.rocketmq.client.consumer.store.RemoteBrokerOffsetStore;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.impl.MQClientAPIImpl;
import org.apache.rocketmq.client.impl.MQClientManager;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.client.impl.producer.TopicPublishInfo;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.ServiceState;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.InvokeCallback;
import org.apache.rocketmq.remoting.RPCHook;
import org.apache.rocketmq.remoting.RemotingClient;
import org.apache.rocketmq.remoting.netty.ResponseFuture;
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
 *
 * A push consumer works by itself. What it sees is told as it comes, in lines of the same form that no command asked
 * for: they name the member and the event instead of a number.
 */
public final class Worker {
    /** As many bytes of a body as can hold a value of the lab, with the blank behind it. */
    private static final int HEAD_BYTES = 48;
    private static final int NEVER_MS = 24 * 3600 * 1000;
    private static final int JOIN_ATTEMPTS = 20;
    private static final byte PADDING = '.';
    private static final PrintStream OUT = utf8(new FileOutputStream(FileDescriptor.out));

    private final Settings settings;
    private final Map<String, LogicalClient> clients = new ConcurrentHashMap<>();
    private final Map<String, Member> members = new ConcurrentHashMap<>();
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
        if (verb.equals("join")) {
            return join(words);
        }
        if (verb.equals("leave")) {
            Member left = members.remove(words[0]);
            if (left != null) {
                left.leave();
            }
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

    /**
     * A consumer that gets no route within the timeout as it starts throws, and in 5.x shuts itself down again; an
     * application would start another.
     */
    private String join(String[] words) throws Exception {
        for (int attempt = 1;; attempt++) {
            Member made = new Member(settings, words);
            members.put(words[0], made);
            try {
                made.join();
                return "{}";
            } catch (IllegalStateException noRoute) {
                if (made.runs()) {
                    return "{}"; // 4.9: it asks again by itself
                }
                if (attempt == JOIN_ATTEMPTS) {
                    throw noRoute;
                }
            }
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

    /** Messages as pairs of their offset and the first bytes of their body. */
    private static String listed(List<MessageExt> messages) {
        StringBuilder found = new StringBuilder("[");
        for (MessageExt message : messages) {
            found.append(found.length() == 1 ? "" : ",");
            String head = head(message);
            byte[] body = message.getBody();
            found.append("[" + message.getQueueOffset() + "," + quoted(head) + "," + (body.length - head.length()) + ","
                + isPadding(body, head.length()) + "]");
        }
        return found.append("]").toString();
    }

    private static String head(MessageExt message) {
        byte[] body = message.getBody();
        return new String(body, 0, Math.min(body.length, HEAD_BYTES), StandardCharsets.ISO_8859_1);
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

    private static String pullTold(
        String status, String next, String least, String most, String master, List<MessageExt> messages) {
        return "{\"status\":" + quoted(status) + ",\"next\":" + next + ",\"min\":" + least + ",\"max\":" + most
            + ",\"master\":" + (master == null ? "null" : quoted(master)) + ",\"messages\":" + listed(messages) + "}";
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

        void answered(RemotingCommand response) {
            epoch = response.getExtFields() == null ? null : response.getExtFields().get("epoch");
            ended = System.nanoTime();
            code = response.getCode();
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
                    call.answered(response);
                }
            }
        };
    }

    /** A producer, and a pull consumer for each group it reads for, on one set of connections. */
    private static final class LogicalClient {
        private final Settings settings;
        private final String instance;
        private final DefaultMQProducer producer;
        private final Map<String, DefaultMQPullConsumer> consumers = new HashMap<>();

        LogicalClient(Settings settings, String instance) throws MQClientException {
            this.settings = settings;
            this.instance = instance;
            producer = new DefaultMQProducer(settings.text("producer"), Operation.HOOK);
            settings.configure(producer, instance);
            producer.setRetryTimesWhenSendFailed(settings.number("retries"));
            producer.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
            producer.getDefaultMQProducerImpl().getTopicPublishInfoTable()
                .putIfAbsent(settings.text("topic"), new TopicPublishInfo()); // its route is polled, as of a used topic
            producer.start();
            factory().getMQAdminImpl().setTimeoutMillis(settings.number("timeout"));
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
            List<MessageExt> found = result.getMsgFoundList();
            return pullTold(result.getPullStatus().name(), String.valueOf(result.getNextBeginOffset()),
                String.valueOf(result.getMinOffset()), String.valueOf(result.getMaxOffset()), master,
                found == null ? Collections.<MessageExt>emptyList() : found);
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
                    settings.configure(found, instance);
                    found.start();
                    consumers.put(group, found);
                }
                return found;
            }
        }
    }

    /**
     * A member of a consumer group: the client's push consumer with a concurrent listener. It tells each answer to a
     * pull that brought messages or moved the offset, each message that the listener was given, each commit with its
     * answer, its share of the queues, and each beginning of a queue.
     *
     * Words: name, instance, group, topic, milliseconds between commits, share of the messages to be consumed later,
     * seed of that choice, offset in each queue of the topic that the listener overlooks (a planted flaw; -1: none).
     */
    private static final class Member {
        private static final int PULL_MESSAGE = 11;
        private static final int SUCCESS = 0;
        private static final int PULL_OFFSET_MOVED = 21;
        private static final int HEARTBEAT_MS = 5000; // as our own client's
        private static final boolean SPLIT = Arrays.stream(InvokeCallback.class.getMethods())
            .anyMatch(method -> method.getName().equals("operationSucceed")); // 5.x tells answers and failures apart

        private final String name;
        private final String topic;
        private final double later;
        private final long seed;
        private final long overlooked;
        private final MQClientInstance factory;
        private final Offsets offsets;
        private final DefaultMQPushConsumer consumer;

        Member(Settings settings, String[] words) throws Exception {
            name = words[0];
            topic = words[3];
            later = Double.parseDouble(words[5]);
            seed = Long.parseLong(words[6]);
            overlooked = Long.parseLong(words[7]);
            consumer = new DefaultMQPushConsumer(words[2], Operation.HOOK, new Share());
            settings.configure(consumer, words[1]);
            consumer.setPersistConsumerOffsetInterval(Integer.parseInt(words[4]));
            consumer.setHeartbeatBrokerInterval(HEARTBEAT_MS);
            consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            consumer.registerMessageListener((MessageListenerConcurrently) this::handle);
            consumer.subscribe(topic, "*");
            factory = MQClientManager.getInstance().getOrCreateMQClientInstance(consumer, Operation.HOOK);
            offsets = new Offsets(factory, words[2]);
            consumer.setOffsetStore(offsets);
            watch(factory.getMQClientAPIImpl());
        }

        void join() throws MQClientException {
            consumer.start();
            if (consumer.getDefaultMQPushConsumerImpl().getmQClientFactory() != factory) {
                throw new UnsupportedOperationException("the consumer pulls through a transport that is not watched");
            }
        }

        boolean runs() {
            return consumer.getDefaultMQPushConsumerImpl().getServiceState() == ServiceState.RUNNING;
        }

        void leave() throws InterruptedException {
            offsets.finish();
            consumer.shutdown();
        }

        private void tell(String event, String rest) {
            say("{\"member\":" + quoted(name) + ",\"event\":" + quoted(event) + "," + rest + "}");
        }

        private static String words(MessageQueue queue) {
            return "[" + quoted(queue.getTopic()) + "," + quoted(queue.getBrokerName()) + "," + queue.getQueueId() + "]";
        }

        // ---- the listener

        private ConsumeConcurrentlyStatus handle(List<MessageExt> messages, ConsumeConcurrentlyContext context) {
            MessageQueue queue = context.getMessageQueue();
            MessageExt first = messages.get(0);
            if (queue.getTopic().equals(topic) && first.getQueueOffset() == overlooked) {
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS; // planted: OVERLOOK
            }
            boolean taken = first.getReconsumeTimes() > 0 || !chosen(head(first));
            tell("handled", "\"queue\":" + words(queue) + ",\"messages\":" + listed(messages) + ",\"reconsume\":"
                + first.getReconsumeTimes() + ",\"taken\":" + taken);
            return taken ? ConsumeConcurrentlyStatus.CONSUME_SUCCESS : ConsumeConcurrentlyStatus.RECONSUME_LATER;
        }

        /** Whether a message is to come again: by its thread and counter, whatever order the listener gets them in. */
        private boolean chosen(String head) {
            String value = head.substring(head.indexOf('/') + 1).split(" ", 2)[0];
            return new SplittableRandom(31 * seed + value.hashCode()).nextDouble() < later;
        }

        // ---- the share of the queues

        private final class Share extends AllocateMessageQueueAveragely {
            private final Map<String, List<MessageQueue>> shares = new TreeMap<>();

            @Override
            public synchronized List<MessageQueue> allocate(
                String group, String mine, List<MessageQueue> queues, List<String> members) {
                List<MessageQueue> share = super.allocate(group, mine, queues, members);
                List<MessageQueue> before = shares.put(queues.get(0).getTopic(), share);
                if (!share.equals(before)) {
                    List<String> told = new ArrayList<>();
                    shares.values().forEach(some -> some.forEach(queue -> told.add(words(queue))));
                    tell("assigned", "\"queues\":[" + String.join(",", told) + "]");
                }
                return share;
            }
        }

        // ---- offsets

        /**
         * The client's own store. It commits one-way in the thread that also asks for routes; here each commit waits
         * for its answer, in a thread of its broker, so that a broker that does not answer holds up nothing else.
         */
        private final class Offsets extends RemoteBrokerOffsetStore {
            private final Map<MessageQueue, Long> due = new ConcurrentHashMap<>();
            private final Map<String, ExecutorService> lines = new ConcurrentHashMap<>();
            private volatile boolean finished;

            Offsets(MQClientInstance factory, String group) {
                super(factory, group);
            }

            @Override
            public long readOffset(MessageQueue queue, ReadOffsetType type) {
                long offset = super.readOffset(queue, type);
                if (type == ReadOffsetType.READ_FROM_STORE) { // only asked for by whoever begins with the queue
                    tell("begins", "\"queue\":" + words(queue));
                }
                return offset;
            }

            @Override
            public void updateConsumeOffsetToBroker(MessageQueue queue, long offset, boolean oneway) {
                if (finished) {
                    commit(queue, offset);
                } else if (due.put(queue, offset) == null) { // else the one that waits commits the newest
                    lines.computeIfAbsent(queue.getBrokerName(), broker -> Executors.newSingleThreadExecutor(work -> {
                        Thread made = new Thread(work, "commits");
                        made.setDaemon(true);
                        return made;
                    })).execute(() -> commit(queue, due.remove(queue)));
                }
            }

            private void commit(MessageQueue queue, long offset) {
                Operation operation = Operation.begin();
                String told;
                try {
                    super.updateConsumeOffsetToBroker(queue, offset, false);
                    told = "\"ok\":{}";
                } catch (Throwable failure) {
                    told = "\"error\":" + described(failure);
                }
                tell("committed", "\"queue\":" + words(queue) + ",\"offset\":" + offset + "," + told + ",\"calls\":"
                    + operation.end());
            }

            /** Let the commits that wait go first; those after them are made where they are asked for. */
            void finish() throws InterruptedException {
                finished = true;
                for (ExecutorService line : lines.values()) {
                    line.shutdown();
                    line.awaitTermination(1, TimeUnit.SECONDS);
                }
            }
        }

        // ---- pulls

        /**
         * Pulls are asynchronous, and no hook of 4.9 is called with their answers: so the client's transport is wrapped
         * where the client keeps it.
         */
        private void watch(MQClientAPIImpl calls) throws ReflectiveOperationException {
            Field field = MQClientAPIImpl.class.getDeclaredField("remotingClient");
            field.setAccessible(true);
            RemotingClient transport = (RemotingClient) field.get(calls);
            field.set(calls, wrapped(RemotingClient.class, (method, args) -> {
                if (method.getName().equals("invokeAsync") && ((RemotingCommand) args[1]).getCode() == PULL_MESSAGE) {
                    args[3] = watched((String) args[0], (RemotingCommand) args[1], (InvokeCallback) args[3]);
                }
                return passed(transport, method, args);
            }));
        }

        private InvokeCallback watched(String address, RemotingCommand request, InvokeCallback callback) {
            Call call = new Call(address, request);
            request.makeCustomHeaderToNet(); // as a hook that signs does, to see the fields
            Map<String, String> asked = request.getExtFields();
            if (asked.get("bname") == null) {
                tell("broken", "\"error\":{\"class\":\"\",\"text\":\"pulls of this client do not name their broker\"}");
                return callback;
            }
            MessageQueue queue =
                new MessageQueue(asked.get("topic"), asked.get("bname"), Integer.parseInt(asked.get("queueId")));
            String master = factory.findBrokerAddressInPublish(queue.getBrokerName());
            return wrapped(InvokeCallback.class, (method, args) -> {
                RemotingCommand response = null;
                if (method.getName().equals(SPLIT ? "operationSucceed" : "operationComplete")) {
                    response = SPLIT ? (RemotingCommand) args[0] : ((ResponseFuture) args[0]).getResponseCommand();
                }
                if (response != null) {
                    try {
                        pulled(queue, master, call, response);
                    } catch (Throwable failure) {
                        tell("broken", "\"error\":" + described(failure));
                    }
                }
                return passed(callback, method, args);
            });
        }

        private void pulled(MessageQueue queue, String master, Call call, RemotingCommand response) {
            boolean found = response.getCode() == SUCCESS;
            if (!found && response.getCode() != PULL_OFFSET_MOVED) {
                return;
            }
            call.answered(response);
            Map<String, String> said = response.getExtFields();
            List<MessageExt> messages = found ? MessageDecoder.decodes(ByteBuffer.wrap(response.getBody()))
                : Collections.<MessageExt>emptyList();
            String told = pullTold(found ? "FOUND" : "OFFSET_ILLEGAL", said.get("nextBeginOffset"),
                said.get("minOffset"), said.get("maxOffset"), master, messages);
            tell("pulled", "\"queue\":" + words(queue) + ",\"ok\":" + told + ",\"calls\":[" + call.json() + "]");
        }

        private interface Handler {
            Object handle(Method method, Object[] args) throws Throwable;
        }

        private static <T> T wrapped(Class<T> type, Handler handler) {
            return type.cast(Proxy.newProxyInstance(Worker.class.getClassLoader(), new Class<?>[] {type},
                (self, method, args) -> handler.handle(method, args)));
        }

        private static Object passed(Object target, Method method, Object[] args) throws Throwable {
            try {
                return method.invoke(target, args);
            } catch (InvocationTargetException failure) {
                throw failure.getCause();
            }
        }
    }
}
