import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.client.impl.producer.TopicPublishInfo;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** A producer, and a pull consumer for each group it reads for, on one set of connections. */
final class LogicalClient {
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
        return "{\"status\":" + Lines.quoted(result.getSendStatus().name())
            + ",\"id\":" + Lines.quoted(result.getMsgId())
            + ",\"offsetId\":" + Lines.quoted(String.valueOf(result.getOffsetMsgId())) + ",\"broker\":"
            + Lines.quoted(queue.getBrokerName()) + ",\"queue\":" + queue.getQueueId() + ",\"offset\":"
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
        return Lines.pullTold(result.getPullStatus().name(), String.valueOf(result.getNextBeginOffset()),
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
