import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragely;
import org.apache.rocketmq.client.consumer.store.ReadOffsetType;
import org.apache.rocketmq.client.consumer.store.RemoteBrokerOffsetStore;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.impl.MQClientAPIImpl;
import org.apache.rocketmq.client.impl.MQClientManager;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.common.ServiceState;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.InvokeCallback;
import org.apache.rocketmq.remoting.RemotingClient;
import org.apache.rocketmq.remoting.netty.ResponseFuture;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/**
 * A member of a consumer group: the client's push consumer with a concurrent listener. It tells each answer to a
 * pull that brought messages or moved the offset, each message that the listener was given, each commit with its
 * answer, its share of the queues, and each beginning of a queue.
 *
 * Words: name, instance, group, topic, milliseconds between commits, share of the messages to be consumed later,
 * seed of that choice, offset in each queue of the topic that the listener overlooks (a planted flaw; -1: none).
 */
final class Member {
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
        Lines.say("{\"member\":" + Lines.quoted(name) + ",\"event\":" + Lines.quoted(event) + "," + rest + "}");
    }

    private static String words(MessageQueue queue) {
        return "[" + Lines.quoted(queue.getTopic()) + "," + Lines.quoted(queue.getBrokerName()) + ","
            + queue.getQueueId() + "]";
    }

    // ---- the listener

    private ConsumeConcurrentlyStatus handle(List<MessageExt> messages, ConsumeConcurrentlyContext context) {
        MessageQueue queue = context.getMessageQueue();
        MessageExt first = messages.get(0);
        if (queue.getTopic().equals(topic) && first.getQueueOffset() == overlooked) {
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS; // planted: OVERLOOK
        }
        boolean taken = first.getReconsumeTimes() > 0 || !chosen(Lines.head(first));
        tell("handled", "\"queue\":" + words(queue) + ",\"messages\":" + Lines.listed(messages) + ",\"reconsume\":"
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
                told = "\"error\":" + Lines.described(failure);
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
                    tell("broken", "\"error\":" + Lines.described(failure));
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
        String told = Lines.pullTold(found ? "FOUND" : "OFFSET_ILLEGAL", said.get("nextBeginOffset"),
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
