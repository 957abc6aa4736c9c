import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicBoolean;

import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

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
    private static final int JOIN_ATTEMPTS = 20;

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
        Lines.say("{\"ready\":true}");
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
            told = "\"error\":" + Lines.described(failure);
        }
        Lines.say("{\"id\":" + words[0] + "," + told + ",\"calls\":" + operation.end() + "}");
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
        Arrays.fill(body, head.length, body.length, Lines.PADDING);
        Message made = new Message(topic, body);
        made.setWaitStoreMsgOK(words[at + 2].equals("wait"));
        return made;
    }
}
