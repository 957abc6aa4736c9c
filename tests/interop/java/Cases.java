import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.io.UnsupportedEncodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;

import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/**
 * Drives a cluster with RocketMQ's own Java client, case by case.
 *
 * Arguments: address of the name server, then names of cases in the order to run them. Each case uses a topic of its
 * own name, which must exist with four queues. For each case one JSON line goes to standard output:
 * {"case", "ok", "value", "ms"}. A case may ask its caller to do something to the cluster with a line {"ask"}; the
 * caller answers with one line on standard input when it is done.
 *
 * One source for all client versions; what moved between packages from 4.9 to 5.x is reached by reflection.
 */
public final class Cases {
    private interface Case {
        String run(String topic) throws Exception;
    }

    private static final long PATIENCE_MS = 180_000;
    private static final String CLUSTER = "DefaultCluster";
    private static final PrintStream OUT = utf8(new FileOutputStream(FileDescriptor.out));
    private static final BufferedReader IN =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    private static final Map<String, Case> CASES = new LinkedHashMap<>();

    private static String names;
    private static DefaultMQProducer producer;
    private static DefaultMQPullConsumer reader;

    private Cases() {
    }

    public static void main(String[] args) throws Exception {
        names = args[0];
        declare();
        System.setOut(utf8(new ByteArrayOutputStream()));
        producer = newProducer("interop-producer");
        reader = new DefaultMQPullConsumer("interop-reader");
        reader.setNamesrvAddr(names);
        reader.setPollNameServerInterval(1000);
        reader.start();
        for (String name : Arrays.asList(args).subList(1, args.length)) {
            long begin = System.nanoTime();
            boolean ok = false;
            String value;
            try {
                Case one = CASES.get(name);
                if (one == null) {
                    throw new IllegalArgumentException("no such case; known: " + CASES.keySet());
                }
                value = one.run(name);
                ok = true;
            } catch (Throwable failure) {
                value = describe(failure);
            }
            say("{\"case\":" + quoted(name) + ",\"ok\":" + ok + ",\"value\":" + quoted(value) + ",\"ms\":"
                + (System.nanoTime() - begin) / 1_000_000 + "}");
        }
        // The clients' threads are not daemons, and what they still hold is of no interest any more.
        System.exit(0);
    }

    private static void declare() {
        CASES.put("send-sync", Cases::sendSync);
        CASES.put("send-async", Cases::sendAsync);
        CASES.put("send-oneway", Cases::sendOneway);
        CASES.put("send-batch", Cases::sendBatch);
        CASES.put("send-selector", Cases::sendSelector);
        CASES.put("send-compressed", Cases::sendCompressed);
        CASES.put("send-properties", Cases::sendProperties);
        CASES.put("send-new-topic", Cases::sendNewTopic);
        CASES.put("push-concurrent", Cases::pushConcurrent);
        CASES.put("push-orderly", Cases::pushOrderly);
        CASES.put("push-broadcasting", Cases::pushBroadcasting);
        CASES.put("push-tags", Cases::pushTags);
        CASES.put("push-resume", Cases::pushResume);
        CASES.put("lite-pull-subscribe", Cases::litePullSubscribe);
        CASES.put("lite-pull-assign", Cases::litePullAssign);
        CASES.put("retry", Cases::retry);
        CASES.put("retry-dlq", Cases::retryToDeadLetters);
        CASES.put("delay-level", Cases::delayLevel);
        CASES.put("offset-queries", Cases::offsetQueries);
        CASES.put("admin-clusterList", topic -> admin("clusterList"));
        CASES.put("admin-brokerStatus", topic -> admin("brokerStatus", "-c", CLUSTER));
        CASES.put("admin-topicRoute", topic -> admin("topicRoute", "-t", "send-sync"));
        CASES.put("admin-topicList", topic -> admin("topicList"));
        CASES.put("admin-updateTopic", topic -> admin("updateTopic", "-c", CLUSTER, "-t", "made-by-mqadmin", "-r", "3",
            "-w", "3") + admin("topicRoute", "-t", "made-by-mqadmin"));
        CASES.put("admin-topicStatus", topic -> admin("topicStatus", "-t", "send-sync"));
        CASES.put("admin-consumerProgress", topic -> admin("consumerProgress", "-g", "group-push-resume"));
        CASES.put("admin-queryMsgById", Cases::queryById);
        CASES.put("admin-queryMsgByKey", Cases::queryByKey);
        CASES.put("error-no-route", Cases::errorNoRoute);
        CASES.put("error-not-writable", Cases::errorNotWritable);
        CASES.put("error-not-readable", Cases::errorNotReadable);
        CASES.put("error-too-large", Cases::errorTooLarge);
        CASES.put("error-long-properties", Cases::errorLongProperties);
        CASES.put("error-queue-id", Cases::errorQueueId);
        CASES.put("error-offset-beyond", Cases::errorOffsetBeyond);
        CASES.put("error-transaction", Cases::errorTransaction);
        CASES.put("failover-return", Cases::failoverReturn);
        CASES.put("failover-promotion", Cases::failoverPromotion);
        CASES.put("failover-election", Cases::failoverElection);
    }

    // --- sending

    private static String sendSync(String topic) throws Exception {
        List<String> sent = new ArrayList<>();
        for (int i = 0; i < 20; i++) {
            SendResult result = producer.send(message(topic, i));
            require(result.getSendStatus() == SendStatus.SEND_OK, "status " + result.getSendStatus());
            require(result.getMsgId() != null && result.getOffsetMsgId() != null, "an id is missing: " + result);
            sent.add(body(i));
        }
        requireStored(topic, sent);
        return "";
    }

    private static String sendAsync(String topic) throws Exception {
        BlockingQueue<Object> outcomes = new LinkedBlockingQueue<>();
        List<String> sent = new ArrayList<>();
        for (int i = 0; i < 20; i++) {
            sent.add(body(i));
            producer.send(message(topic, i), new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    outcomes.add(result.getSendStatus());
                }

                @Override
                public void onException(Throwable failure) {
                    outcomes.add(failure);
                }
            });
        }
        for (int i = 0; i < 20; i++) {
            Object outcome = outcomes.poll(PATIENCE_MS, TimeUnit.MILLISECONDS);
            require(outcome == SendStatus.SEND_OK, "outcome " + outcome);
        }
        requireStored(topic, sent);
        return "";
    }

    private static String sendOneway(String topic) throws Exception {
        List<String> sent = new ArrayList<>();
        for (int i = 0; i < 20; i++) {
            producer.sendOneway(message(topic, i));
            sent.add(body(i));
        }
        until(() -> stored(topic).size() == sent.size(), "20 one-way messages in the store");
        requireStored(topic, sent);
        return "";
    }

    private static String sendBatch(String topic) throws Exception {
        List<Message> batch = new ArrayList<>();
        List<String> sent = new ArrayList<>();
        for (int i = 0; i < 10; i++) {
            batch.add(message(topic, i));
            sent.add(body(i));
        }
        SendResult result = producer.send(batch);
        require(result.getSendStatus() == SendStatus.SEND_OK, "status " + result.getSendStatus());
        require(result.getOffsetMsgId().split(",").length == 10, "ids " + result.getOffsetMsgId());
        requireStored(topic, sent);
        List<MessageExt> messages = stored(topic);
        messages.sort((a, b) -> Long.compare(a.getQueueOffset(), b.getQueueOffset()));
        for (int i = 0; i < 10; i++) {
            require(messages.get(i).getQueueOffset() == result.getQueueOffset() + i, "offsets are not consecutive");
            require(text(messages.get(i)).equals(body(i)), "the order inside the batch was lost");
        }
        return "";
    }

    private static String sendSelector(String topic) throws Exception {
        for (int i = 0; i < 12; i++) {
            SendResult result = producer.send(message(topic, i), (queues, message, argument) -> {
                return queues.get((Integer) argument % queues.size());
            }, i % 2);
            require(result.getSendStatus() == SendStatus.SEND_OK, "status " + result.getSendStatus());
            require(result.getMessageQueue().getQueueId() == i % 2, "queue " + result.getMessageQueue());
        }
        List<String> first = new ArrayList<>();
        for (MessageExt message : stored(topic)) {
            if (message.getQueueId() == 0) {
                first.add(text(message));
            }
        }
        require(first.equals(Arrays.asList(body(0), body(2), body(4), body(6), body(8), body(10))), "queue 0: " + first);
        return "";
    }

    private static String sendCompressed(String topic) throws Exception {
        char[] letters = new char[20_000];
        Arrays.fill(letters, 'z');
        String large = new String(letters);
        producer.send(new Message(topic, large.getBytes(StandardCharsets.UTF_8)));
        MessageExt message = stored(topic).get(0);
        require(text(message).equals(large), "the body came back changed");
        require(message.getStoreSize() < 5_000, "was stored with " + message.getStoreSize() + " bytes");
        return "";
    }

    private static String sendProperties(String topic) throws Exception {
        Message message = new Message(topic, "TagA", "key-1 key-2", 77, "body 测试".getBytes(StandardCharsets.UTF_8), true);
        message.putUserProperty("colour", "grün");
        producer.send(message);
        MessageExt back = stored(topic).get(0);
        require("TagA".equals(back.getTags()) && "key-1 key-2".equals(back.getKeys()), back.toString());
        require(back.getFlag() == 77 && "grün".equals(back.getUserProperty("colour")), back.toString());
        require("body 测试".equals(text(back)), text(back));
        require(back.getBornTimestamp() <= back.getStoreTimestamp() + 1, "times " + back);
        return "";
    }

    private static String sendNewTopic(String topic) throws Exception {
        String fresh = "made-by-sending";
        SendResult result = producer.send(new Message(fresh, "first".getBytes(StandardCharsets.UTF_8)));
        require(result.getSendStatus() == SendStatus.SEND_OK, "status " + result.getSendStatus());
        until(() -> stored(fresh).size() == 1, "the first message of a new topic");
        return "";
    }

    // --- consuming

    private static String pushConcurrent(String topic) throws Exception {
        Inbox first = new Inbox();
        Inbox second = new Inbox();
        DefaultMQPushConsumer one = push("group-" + topic, topic, "*");
        DefaultMQPushConsumer two = push("group-" + topic, topic, "*");
        two.setInstanceName("second");
        one.registerMessageListener(first.concurrently());
        two.registerMessageListener(second.concurrently());
        one.start();
        two.start();
        try {
            // Only when both members have their share of the four queues is there something to see.
            until(() -> assigned(one, topic) == 2 && assigned(two, topic) == 2, "two queues for each of two members");
            List<String> sent = send(topic, 0, 40);
            until(() -> first.texts.size() + second.texts.size() >= sent.size(), "40 messages in both members");
            Set<String> all = new TreeSet<>(first.texts);
            all.addAll(second.texts);
            require(all.equals(new TreeSet<>(sent)), "received " + all);
            require(!first.texts.isEmpty() && !second.texts.isEmpty(), "one member got everything");
        } finally {
            one.shutdown();
            two.shutdown();
        }
        return "";
    }

    private static String pushOrderly(String topic) throws Exception {
        Map<Integer, List<String>> sent = new HashMap<>();
        for (int i = 0; i < 40; i++) {
            SendResult result = producer.send(message(topic, i), (queues, message, argument) -> {
                return queues.get((Integer) argument % queues.size());
            }, i);
            sent.computeIfAbsent(result.getMessageQueue().getQueueId(), key -> new ArrayList<>()).add(body(i));
        }
        Map<Integer, List<String>> received = Collections.synchronizedMap(new HashMap<>());
        Set<String> suspended = Collections.synchronizedSet(new TreeSet<>());
        DefaultMQPushConsumer consumer = push("group-" + topic, topic, "*");
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            for (MessageExt message : messages) {
                // The first message of all is refused once: an orderly consumer must get it again before its successors.
                if (text(message).equals(body(0)) && suspended.add(body(0))) {
                    context.setSuspendCurrentQueueTimeMillis(50);
                    return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
                }
                received.computeIfAbsent(message.getQueueId(), key -> new ArrayList<>()).add(text(message));
            }
            return ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        try {
            until(() -> count(received) >= 40, "40 messages");
            require(received.equals(sent), "received " + received);
            require(suspended.contains(body(0)), "the first message was never refused");
        } finally {
            consumer.shutdown();
        }
        return "";
    }

    private static String pushBroadcasting(String topic) throws Exception {
        Inbox first = new Inbox();
        Inbox second = new Inbox();
        DefaultMQPushConsumer one = push("group-" + topic, topic, "*");
        DefaultMQPushConsumer two = push("group-" + topic, topic, "*");
        for (DefaultMQPushConsumer consumer : Arrays.asList(one, two)) {
            broadcasting(consumer);
        }
        one.setInstanceName("broadcast-one");
        two.setInstanceName("broadcast-two");
        one.registerMessageListener(first.concurrently());
        two.registerMessageListener(second.concurrently());
        one.start();
        two.start();
        try {
            List<String> sent = send(topic, 0, 20);
            until(() -> first.texts.size() >= 20 && second.texts.size() >= 20, "20 messages in each member");
            require(first.sorted().equals(sorted(sent)), "first received " + first.sorted());
            require(second.sorted().equals(sorted(sent)), "second received " + second.sorted());
        } finally {
            one.shutdown();
            two.shutdown();
        }
        return "";
    }

    private static String pushTags(String topic) throws Exception {
        List<String> wanted = new ArrayList<>();
        for (int i = 0; i < 30; i++) {
            String tag = "Tag" + (char) ('A' + i % 3);
            producer.send(new Message(topic, tag, body(i).getBytes(StandardCharsets.UTF_8)));
            if (i % 3 != 1) {
                wanted.add(body(i));
            }
        }
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = push("group-" + topic, topic, "TagA || TagC");
        consumer.registerMessageListener(inbox.concurrently());
        consumer.start();
        try {
            until(() -> inbox.texts.size() >= wanted.size(), "20 messages with the wanted tags");
            // One more with a wanted tag: whatever was wrongly let through before it has come by now.
            producer.send(new Message(topic, "TagA", "last".getBytes(StandardCharsets.UTF_8)));
            wanted.add("last");
            until(() -> inbox.texts.contains("last"), "the last message");
            require(inbox.sorted().equals(sorted(wanted)), "received " + inbox.sorted());
        } finally {
            consumer.shutdown();
        }
        return "";
    }

    private static String pushResume(String topic) throws Exception {
        List<String> before = send(topic, 0, 10);
        Inbox first = new Inbox();
        DefaultMQPushConsumer one = push("group-" + topic, topic, "*");
        one.registerMessageListener(first.concurrently());
        one.start();
        until(() -> first.texts.size() >= 10, "10 messages");
        one.shutdown();
        require(first.sorted().equals(sorted(before)), "received " + first.sorted());
        List<String> after = send(topic, 10, 20);
        Inbox second = new Inbox();
        DefaultMQPushConsumer two = push("group-" + topic, topic, "*");
        two.registerMessageListener(second.concurrently());
        two.start();
        until(() -> second.texts.size() >= 10, "10 further messages");
        two.shutdown();
        require(second.sorted().equals(sorted(after)), "after the restart received " + second.sorted());
        return "";
    }

    private static String litePullSubscribe(String topic) throws Exception {
        List<String> sent = send(topic, 0, 20);
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer("group-" + topic);
        consumer.setNamesrvAddr(names);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        consumer.start();
        try {
            List<String> received = poll(consumer, 20);
            require(sorted(received).equals(sorted(sent)), "received " + received);
            consumer.commitSync();
        } finally {
            consumer.shutdown();
        }
        return "";
    }

    private static String litePullAssign(String topic) throws Exception {
        send(topic, 0, 40);
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer("group-" + topic);
        consumer.setNamesrvAddr(names);
        consumer.setAutoCommit(false);
        consumer.start();
        try {
            List<MessageQueue> queues = new ArrayList<>(consumer.fetchMessageQueues(topic));
            require(queues.size() == 4, "queues " + queues);
            consumer.assign(queues);
            // A pull that is under way while a queue is sought may still hand over what it got: so first to the end.
            poll(consumer, 40);
            for (MessageQueue queue : queues) {
                consumer.seek(queue, 5);
            }
            List<String> received = poll(consumer, 20);
            Set<String> wanted = new TreeSet<>();
            for (MessageExt message : stored(topic)) {
                if (message.getQueueOffset() >= 5) {
                    wanted.add(text(message));
                }
            }
            require(new TreeSet<>(received).equals(wanted), "received " + received);
        } finally {
            consumer.shutdown();
        }
        return "";
    }

    // --- consuming again, later

    private static String retry(String topic) throws Exception {
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        DefaultMQPushConsumer consumer = push("group-" + topic, topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                seen.add(message.getTopic() + " " + text(message) + " " + message.getReconsumeTimes());
                if (message.getReconsumeTimes() < 2) {
                    return ConsumeConcurrentlyStatus.RECONSUME_LATER;
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        try {
            producer.send(message(topic, 0));
            for (int times = 0; times < 3; times++) {
                String got = seen.poll(PATIENCE_MS, TimeUnit.MILLISECONDS);
                require((topic + " " + body(0) + " " + times).equals(got), "delivery " + times + " was " + got);
            }
        } finally {
            consumer.shutdown();
        }
        require(stored("%RETRY%group-" + topic).size() == 2, "retry topic: " + stored("%RETRY%group-" + topic));
        return "";
    }

    private static String retryToDeadLetters(String topic) throws Exception {
        DefaultMQPushConsumer consumer = push("group-" + topic, topic, "*");
        consumer.setMaxReconsumeTimes(1);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            return ConsumeConcurrentlyStatus.RECONSUME_LATER;
        });
        String dead = "%DLQ%group-" + topic;
        consumer.start();
        try {
            producer.send(message(topic, 0));
            until(() -> stored(dead).size() == 1, "one dead letter");
            require(text(stored(dead).get(0)).equals(body(0)), "dead letter " + stored(dead));
        } finally {
            consumer.shutdown();
        }
        return "";
    }

    private static String delayLevel(String topic) throws Exception {
        BlockingQueue<MessageExt> seen = new LinkedBlockingQueue<>();
        DefaultMQPushConsumer consumer = push("group-" + topic, topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            seen.addAll(messages);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        try {
            // Who has no queues yet finds both messages when it gets them, and takes either first.
            until(() -> assigned(consumer, topic) == 4, "all four queues");
            Message late = message(topic, 0);
            late.setDelayTimeLevel(2);
            long begin = System.nanoTime();
            producer.send(late);
            producer.send(message(topic, 1));
            MessageExt first = seen.poll(PATIENCE_MS, TimeUnit.MILLISECONDS);
            MessageExt second = seen.poll(PATIENCE_MS, TimeUnit.MILLISECONDS);
            long elapsed = (System.nanoTime() - begin) / 1_000_000;
            require(first != null && text(first).equals(body(1)), "first came " + first);
            require(second != null && text(second).equals(body(0)), "second came " + second);
            require(topic.equals(second.getTopic()) && elapsed >= 2000, "after " + elapsed + " ms: " + second);
        } finally {
            consumer.shutdown();
        }
        return "";
    }

    private static String offsetQueries(String topic) throws Exception {
        MessageQueue queue = new ArrayList<>(new TreeSet<>(reader.fetchSubscribeMessageQueues(topic))).get(0);
        for (int i = 0; i < 5; i++) {
            producer.send(message(topic, i), queue);
        }
        until(() -> stored(topic).size() == 5, "5 messages");
        List<MessageExt> messages = stored(topic);
        require(reader.minOffset(queue) == 0 && reader.maxOffset(queue) == 5, "bounds");
        require(reader.searchOffset(queue, 0) == 0, "search at 0");
        long middle = reader.searchOffset(queue, messages.get(3).getStoreTimestamp());
        require(middle >= 0 && middle <= 3, "search in the middle: " + middle);
        require(reader.earliestMsgStoreTime(queue) == messages.get(0).getStoreTimestamp(), "earliest");
        reader.updateConsumeOffset(queue, 3);
        reader.getOffsetStore().persist(queue);
        until(() -> fetchOffset(queue) == 3, "the committed offset");
        return "";
    }

    // --- administration

    private static String queryById(String topic) throws Exception {
        SendResult result = producer.send(message("send-sync", 1000));
        List<String> options = new ArrayList<>(Arrays.asList("-i", result.getOffsetMsgId()));
        if (moved("protocol.heartbeat.MessageModel").getName().contains("remoting")) {
            options.addAll(Arrays.asList("-t", "send-sync")); // wanted from 5.x on, unknown before
        }
        return admin("queryMsgById", options.toArray(new String[0]))
            + "\n" + admin("queryMsgByUniqueKey", "-t", "send-sync", "-i", result.getMsgId());
    }

    private static String queryByKey(String topic) throws Exception {
        Message message = message("send-sync", 1001);
        message.setKeys("the-key");
        SendResult result = producer.send(message);
        return result.getMsgId() + "\n" + admin("queryMsgByKey", "-t", "send-sync", "-k", "the-key");
    }

    // --- refusals: the value is the code that the application sees

    private static String errorNoRoute(String topic) {
        return code(() -> reader.fetchSubscribeMessageQueues("nobody-made-this"));
    }

    private static String errorNotWritable(String topic) throws Exception {
        // The route still says writable (the caller changes the broker only when the route is known here).
        producer.send(message(topic, 0));
        ask("perm " + topic + " 4");
        return code(() -> producer.send(message(topic, 1), new MessageQueue(topic, "broker-a", 0)));
    }

    private static String errorNotReadable(String topic) throws Exception {
        producer.send(message(topic, 0), new MessageQueue(topic, "broker-a", 0));
        MessageQueue queue = reader.fetchSubscribeMessageQueues(topic).iterator().next();
        ask("perm " + topic + " 2");
        return code(() -> reader.pull(queue, "*", 0, 1));
    }

    private static String errorTooLarge(String topic) throws Exception {
        DefaultMQProducer careless = newProducer("interop-careless");
        careless.setMaxMessageSize(16 * 1024 * 1024);
        careless.setCompressMsgBodyOverHowmuch(16 * 1024 * 1024);
        try {
            return code(() -> careless.send(new Message(topic, new byte[4 * 1024 * 1024 + 1]),
                new MessageQueue(topic, "broker-a", 0)));
        } finally {
            careless.shutdown();
        }
    }

    private static String errorLongProperties(String topic) {
        char[] letters = new char[33_000];
        Arrays.fill(letters, 'p');
        Message message = message(topic, 0);
        message.putUserProperty("long", new String(letters));
        return code(() -> producer.send(message, new MessageQueue(topic, "broker-a", 0)));
    }

    private static String errorQueueId(String topic) {
        return code(() -> producer.send(message(topic, 0), new MessageQueue(topic, "broker-a", 99)));
    }

    private static String errorOffsetBeyond(String topic) throws Exception {
        producer.send(message(topic, 0), new MessageQueue(topic, "broker-a", 0));
        until(() -> stored(topic).size() == 1, "the message"); // Apache's broker indexes it a moment later
        PullResult result = reader.pull(new MessageQueue(topic, "broker-a", 0), "*", 1_000_000, 1);
        require(result.getPullStatus() == PullStatus.OFFSET_ILLEGAL, "status " + result.getPullStatus());
        return Long.toString(result.getNextBeginOffset());
    }

    private static String errorTransaction(String topic) throws Exception {
        TransactionMQProducer transactional = new TransactionMQProducer("interop-transactions");
        transactional.setNamesrvAddr(names);
        transactional.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message message, Object argument) {
                return LocalTransactionState.COMMIT_MESSAGE;
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt message) {
                return LocalTransactionState.COMMIT_MESSAGE;
            }
        });
        transactional.setRetryTimesWhenSendFailed(0);
        transactional.start();
        try {
            String found = code(() -> transactional.sendMessageInTransaction(message(topic, 0), null));
            require(stored(topic).isEmpty(), "a refused transaction left a message");
            return found;
        } finally {
            transactional.shutdown();
        }
    }

    // --- the master dies

    private static String failoverReturn(String topic) throws Exception {
        Set<String> acknowledged = Collections.synchronizedSet(new TreeSet<>());
        acknowledged.addAll(send(topic, 0, 40));
        ask("wait-replicated");
        ask("kill-master");
        // A consumer that comes now finds only the slave, and gets what was acknowledged from it.
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = push("group-" + topic, topic, "*");
        consumer.registerMessageListener(inbox.concurrently());
        consumer.start();
        try {
            until(() -> inbox.set().containsAll(acknowledged), "all acknowledged messages from the slave");
            String refusal = code(() -> producer.send(message(topic, 100)));
            require(!"".equals(refusal), "a send succeeded without a master");
            ask("start-master");
            until(() -> {
                String text = "back";
                if (acknowledged.contains(text)) {
                    return true;
                }
                try {
                    SendResult result = producer.send(new Message(topic, text.getBytes(StandardCharsets.UTF_8)));
                    return result.getSendStatus() == SendStatus.SEND_OK && acknowledged.add(text);
                } catch (Exception stillAway) {
                    return false;
                }
            }, "a send to the master that came back");
            until(() -> inbox.set().containsAll(acknowledged), "the message from the master that came back");
            return refusal;
        } finally {
            consumer.shutdown();
        }
    }

    private static String failoverPromotion(String topic) throws Exception {
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = push("group-" + topic, topic, "*");
        consumer.registerMessageListener(inbox.concurrently());
        consumer.start();
        try {
            Set<String> acknowledged = new TreeSet<>(send(topic, 0, 40));
            ask("wait-replicated");
            ask("kill-master");
            ask("promote-slave");
            for (int i = 100; i < 120; i++) {
                int number = i;
                until(() -> {
                    try {
                        return producer.send(message(topic, number)).getSendStatus() == SendStatus.SEND_OK;
                    } catch (Exception notYet) {
                        return false;
                    }
                }, "a send to the new master");
                acknowledged.add(body(i));
            }
            until(() -> inbox.set().containsAll(acknowledged), "all acknowledged messages");
            ask("old-master-as-slave");
            acknowledged.addAll(send(topic, 200, 210));
            ask("wait-replicated");
            until(() -> inbox.set().containsAll(acknowledged), "messages sent with the old master as slave");
            require(new TreeSet<>(bodies(stored(topic))).containsAll(acknowledged), "the log lacks acknowledged messages");
            return "";
        } finally {
            consumer.shutdown();
        }
    }

    /** The leader dies twice under load, the second time after the first one is back with everything. */
    private static String failoverElection(String topic) throws Exception {
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer concurrent = push("group-" + topic, topic, "*");
        concurrent.registerMessageListener(inbox.concurrently());
        Map<Integer, Set<String>> ordered = Collections.synchronizedMap(new HashMap<>());
        DefaultMQPushConsumer orderly = push("group-orderly-" + topic, topic, "*");
        orderly.setInstanceName("orderly");
        orderly.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            for (MessageExt message : messages) {
                ordered.computeIfAbsent(message.getQueueId(), key -> new LinkedHashSet<>()).add(text(message));
            }
            return ConsumeOrderlyStatus.SUCCESS;
        });
        Set<String> pulled = new TreeSet<>();
        DefaultLitePullConsumer lite = new DefaultLitePullConsumer("group-lite-" + topic);
        lite.setNamesrvAddr(names);
        lite.setInstanceName("lite");
        lite.setPollNameServerInterval(1000);
        lite.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        lite.subscribe(topic, "*");
        concurrent.start();
        orderly.start();
        lite.start();
        try {
            Stream stream = new Stream(topic);
            for (int turn = 0; turn < 2; turn++) {
                stream.start();
                stream.untilMore(40);
                ask("kill-master");
                stream.untilMore(40);
                stream.stop();
                ask("start-killed");
            }
            Set<String> sent = stream.acknowledged;
            until(() -> inbox.set().containsAll(sent), "all acknowledged messages in the concurrent consumer");
            until(() -> received(ordered).containsAll(sent), "all acknowledged messages in the orderly consumer");
            until(() -> {
                pulled.addAll(bodies(lite.poll(500)));
                return pulled.containsAll(sent);
            }, "all acknowledged messages in the lite pull consumer");
            synchronized (ordered) {
                for (Map.Entry<Integer, Set<String>> queue : ordered.entrySet()) {
                    List<String> first = new ArrayList<>(queue.getValue());
                    require(first.equals(sorted(first)), "queue " + queue.getKey() + " came in the order " + first);
                }
            }
            require(new TreeSet<>(bodies(stored(topic))).containsAll(sent), "the log lacks acknowledged messages");
            return admin("clusterList");
        } finally {
            concurrent.shutdown();
            orderly.shutdown();
            lite.shutdown();
        }
    }

    // --- helpers

    /** Sends message after message from a thread of its own, queue after queue; none is sent twice. */
    private static final class Stream {
        final Set<String> acknowledged = Collections.synchronizedSet(new TreeSet<>());
        private final String topic;
        private int next;
        private volatile boolean ended;
        private Thread thread;

        Stream(String topic) {
            this.topic = topic;
        }

        void start() {
            ended = false;
            thread = new Thread(this::send, "stream");
            thread.start();
        }

        void stop() throws InterruptedException {
            ended = true;
            thread.join();
        }

        /** Until so many more than now are acknowledged. */
        void untilMore(int count) throws InterruptedException {
            int wanted = acknowledged.size() + count;
            until(() -> acknowledged.size() >= wanted, count + " more acknowledged sends");
        }

        private void send() {
            while (!ended) {
                int number = next++;
                try {
                    SendResult result = producer.send(message(topic, number), (queues, message, argument) -> {
                        return queues.get((Integer) argument % queues.size());
                    }, number, 3000);
                    if (result.getSendStatus() == SendStatus.SEND_OK) {
                        acknowledged.add(body(number));
                    }
                    Thread.sleep(2); // a few hundred messages a second are enough
                } catch (Exception nobodyLeads) {
                    pause();
                }
            }
        }

        private static void pause() {
            try {
                Thread.sleep(20);
            } catch (InterruptedException nobodyInterrupts) {
                Thread.currentThread().interrupt();
            }
        }
    }

    private static Set<String> received(Map<Integer, Set<String>> lists) {
        Set<String> all = new TreeSet<>();
        synchronized (lists) {
            lists.values().forEach(all::addAll);
        }
        return all;
    }

    private interface Attempt {
        Object make() throws Exception;
    }

    /** What a consumer received, in any order. */
    private static final class Inbox {
        final List<String> texts = Collections.synchronizedList(new ArrayList<>());

        MessageListenerConcurrently concurrently() {
            return (messages, context) -> {
                for (MessageExt message : messages) {
                    texts.add(text(message));
                }
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            };
        }

        Set<String> set() {
            synchronized (texts) {
                return new TreeSet<>(texts);
            }
        }

        List<String> sorted() {
            synchronized (texts) {
                return Cases.sorted(texts);
            }
        }
    }

    private static DefaultMQProducer newProducer(String group) throws MQClientException {
        DefaultMQProducer made = new DefaultMQProducer(group);
        made.setNamesrvAddr(names);
        made.setSendMsgTimeout((int) PATIENCE_MS);
        made.setMqClientApiTimeout((int) PATIENCE_MS);
        made.setPollNameServerInterval(1000);
        made.setHeartbeatBrokerInterval(1000);
        made.setInstanceName(group);
        made.start();
        return made;
    }

    private static DefaultMQPushConsumer push(String group, String topic, String expression) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        consumer.setNamesrvAddr(names);
        consumer.setPollNameServerInterval(1000);
        // A start that finds the heartbeat lock taken goes without, and would wait for the next turn.
        consumer.setHeartbeatBrokerInterval(1000);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        // What a listener has in its hands is done with, and its offset stored, before the consumer is gone.
        consumer.setAwaitTerminationMillisWhenShutdown(60_000);
        consumer.subscribe(topic, expression);
        return consumer;
    }

    private static void broadcasting(DefaultMQPushConsumer consumer) throws ReflectiveOperationException {
        Class<?> model = moved("protocol.heartbeat.MessageModel");
        Object value = model.getMethod("valueOf", String.class).invoke(null, "BROADCASTING");
        DefaultMQPushConsumer.class.getMethod("setMessageModel", model).invoke(consumer, value);
    }

    /** A class that lives in remoting from 5.x on and lived in common before. */
    private static Class<?> moved(String name) throws ClassNotFoundException {
        try {
            return Class.forName("org.apache.rocketmq.remoting." + name);
        } catch (ClassNotFoundException before5) {
            return Class.forName("org.apache.rocketmq.common." + name);
        }
    }

    private static long assigned(DefaultMQPushConsumer consumer, String topic) {
        return consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().keySet().stream()
            .filter(queue -> queue.getTopic().equals(topic)).count();
    }

    private static Message message(String topic, int number) {
        return new Message(topic, body(number).getBytes(StandardCharsets.UTF_8));
    }

    private static String body(int number) {
        return String.format("message-%04d", number);
    }

    private static String text(MessageExt message) {
        return new String(message.getBody(), StandardCharsets.UTF_8);
    }

    private static List<String> send(String topic, int begin, int end) throws Exception {
        List<String> sent = new ArrayList<>();
        for (int i = begin; i < end; i++) {
            SendResult result = producer.send(message(topic, i));
            require(result.getSendStatus() == SendStatus.SEND_OK, "status " + result.getSendStatus());
            sent.add(body(i));
        }
        return sent;
    }

    private static List<String> poll(DefaultLitePullConsumer consumer, int wanted) {
        List<String> received = new ArrayList<>();
        long deadline = System.nanoTime() + PATIENCE_MS * 1_000_000;
        while (received.size() < wanted && System.nanoTime() < deadline) {
            received.addAll(bodies(consumer.poll(500)));
        }
        return received;
    }

    /** All messages of a topic in the order of their queues and offsets, by plain pulls from the first offset on. */
    private static List<MessageExt> stored(String topic) {
        List<MessageExt> found = new ArrayList<>();
        try {
            for (MessageQueue queue : new TreeSet<>(reader.fetchSubscribeMessageQueues(topic))) {
                long offset = reader.minOffset(queue);
                long end = reader.maxOffset(queue);
                while (offset < end) {
                    PullResult result = reader.pull(queue, "*", offset, 32);
                    if (result.getPullStatus() == PullStatus.FOUND) {
                        found.addAll(result.getMsgFoundList());
                    }
                    offset = result.getNextBeginOffset();
                }
            }
        } catch (MQClientException notThereYet) {
            return found;
        } catch (Exception failure) {
            throw new IllegalStateException(failure);
        }
        return found;
    }

    private static long fetchOffset(MessageQueue queue) {
        try {
            return reader.fetchConsumeOffset(queue, true);
        } catch (MQClientException failure) {
            throw new IllegalStateException(failure);
        }
    }

    private static List<String> bodies(Collection<MessageExt> messages) {
        List<String> found = new ArrayList<>();
        for (MessageExt message : messages) {
            found.add(text(message));
        }
        return found;
    }

    private static List<String> sorted(Collection<String> texts) {
        List<String> copy = new ArrayList<>(texts);
        Collections.sort(copy);
        return copy;
    }

    private static int count(Map<Integer, List<String>> lists) {
        synchronized (lists) {
            return lists.values().stream().mapToInt(List::size).sum();
        }
    }

    private static void requireStored(String topic, List<String> sent) {
        List<String> found = sorted(bodies(stored(topic)));
        require(found.equals(sorted(sent)), "stored " + found);
    }

    private static void require(boolean condition, String otherwise) {
        if (!condition) {
            throw new IllegalStateException(otherwise);
        }
    }

    private static void until(BooleanSupplier condition, String what) throws InterruptedException {
        long deadline = System.nanoTime() + PATIENCE_MS * 1_000_000;
        while (!condition.getAsBoolean()) {
            require(System.nanoTime() < deadline, "never came: " + what);
            Thread.sleep(10);
        }
    }

    /** The response code of a refusal, the client's own where no server answered, "" for success. */
    private static String code(Attempt attempt) {
        try {
            attempt.make();
            return "";
        } catch (Throwable failure) {
            int client = 0;
            for (Throwable cause = failure; cause != null; cause = cause.getCause()) {
                if (cause instanceof MQBrokerException) {
                    return Integer.toString(((MQBrokerException) cause).getResponseCode());
                }
                if (cause instanceof MQClientException && client == 0) {
                    client = ((MQClientException) cause).getResponseCode();
                }
            }
            return client != 0 ? Integer.toString(client) : describe(failure);
        }
    }

    private static String admin(String command, String... options) throws Exception {
        List<String> words = new ArrayList<>(Arrays.asList(command, "-n", names));
        words.addAll(Arrays.asList(options));
        PrintStream before = System.out;
        ByteArrayOutputStream printed = new ByteArrayOutputStream();
        System.setOut(utf8(printed));
        try {
            MQAdminStartup.main0(words.toArray(new String[0]), null);
        } finally {
            System.out.flush();
            System.setOut(before);
        }
        return printed.toString("UTF-8");
    }

    private static void ask(String what) throws Exception {
        say("{\"ask\":" + quoted(what) + "}");
        String answer = IN.readLine();
        require("done".equals(answer), "asked to " + what + ", the caller said " + answer);
    }

    private static PrintStream utf8(OutputStream under) {
        try {
            return new PrintStream(under, true, "UTF-8");
        } catch (UnsupportedEncodingException everyJavaHasIt) {
            throw new IllegalStateException(everyJavaHasIt);
        }
    }

    private static void say(String line) {
        OUT.println(line);
        OUT.flush();
    }

    private static String describe(Throwable failure) {
        StringBuilder text = new StringBuilder();
        for (Throwable cause = failure; cause != null; cause = cause.getCause()) {
            text.append(text.length() == 0 ? "" : "; because of ").append(cause);
            if (cause.getStackTrace().length > 0) {
                text.append(" at ").append(cause.getStackTrace()[0]);
            }
        }
        return text.toString();
    }

    private static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char letter : text.toCharArray()) {
            if (letter == '"' || letter == '\\') {
                out.append('\\').append(letter);
            } else if (letter < 0x20) {
                out.append(String.format("\\u%04x", (int) letter));
            } else {
                out.append(letter);
            }
        }
        return out.append('"').toString();
    }
}
