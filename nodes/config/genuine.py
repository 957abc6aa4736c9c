"""Genuine keys without effect here: read, checked for their type, listed, and not acted upon. Pure.

The names are facts of RocketMQ 4.9.8 and 5.3 (classes BrokerConfig, BrokerIdentity, MessageStoreConfig, NamesrvConfig,
NettyServerConfig, NettyClientConfig, AuthConfig, ControllerConfig, TlsSystemConfig) and of DLedger's
DLedgerConfig. Most tune Java's threads, memory maps and optional features that do not exist here.
"""

from __future__ import annotations

from nodes.config.values import Reader, boolean, number, text, whole

__all__ = ["BROKER_GENUINE", "NAMESRV_GENUINE"]

_WHOLE: Reader[object] = whole(-(2**63), 2**63 - 1)


def _table(*, wholes: str = "", booleans: str = "", numbers: str = "", texts: str = "") -> dict[str, Reader[object]]:
    found: dict[str, Reader[object]] = {}
    found.update(dict.fromkeys(wholes.split(), _WHOLE))
    found.update(dict.fromkeys(booleans.split(), boolean))
    found.update(dict.fromkeys(numbers.split(), number))
    found.update(dict.fromkeys(texts.split(), text))
    return found


_COMMON = _table(
    wholes="""
    channelNotActiveInterval clientAsyncSemaphoreValue clientCallbackExecutorThreads
    clientChannelMaxIdleTimeSeconds clientOnewaySemaphoreValue clientSocketRcvBufSize clientSocketSndBufSize
    clientWorkerThreads connectTimeoutMillis maxReconnectIntervalTimeSeconds serverAsyncSemaphoreValue
    serverCallbackExecutorThreads serverOnewaySemaphoreValue serverSelectorThreads serverSocketBacklog
    serverSocketRcvBufSize serverSocketSndBufSize serverWorkerThreads shutdownWaitTimeSeconds
    writeBufferHighWaterMark writeBufferLowWaterMark
    """,
    booleans="""
    clientCloseSocketIfTimeout clientPooledByteBufAllocatorEnable disableCallbackExecutor
    disableNettyWorkerGroup enableReconnectForGoAway enableShutdownGracefully scanAvailableNameSrv
    serverNettyWorkerGroupEnable serverPooledByteBufAllocatorEnable useEpollNativeSelector
    """,
    texts="""
    socksProxyConfig tls.client.authServer tls.client.certPath tls.client.keyPassword tls.client.keyPath
    tls.client.trustCertPath tls.config.file tls.server.authClient tls.server.certPath tls.server.keyPassword
    tls.server.keyPath tls.server.need.client.auth tls.server.trustCertPath tls.test.mode.enable
    """,
)

BROKER_GENUINE: dict[str, Reader[object]] = _COMMON | _table(
    wholes="""
    accessMessageInMemoryHotRatio accessMessageInMemoryMaxRatio ackMessageThreadPoolNums
    ackThreadPoolQueueCapacity aclCacheExpiredSecond aclCacheMaxNum aclCacheRefreshSecond
    adminBrokerThreadPoolNums adminBrokerThreadPoolQueueCapacity batchDispatchRequestThreadPoolNums
    bitMapLengthConsumeQueueExt broadcastOffsetExpireMaxSecond broadcastOffsetExpireSecond
    brokerElectionPriority brokerHeartbeatInterval cgColdReadThreshold checkPointInterval
    checkSyncStateSetPeriod cleanOfflineBrokerInterval cleanRocksDBDirtyCQIntervalMin cleanSwapedMapInterval
    clientManageThreadPoolNums clientManagerThreadPoolQueueCapacity combineCQMaxExtraSearchCommitLogFiles
    commercialBaseCount commercialBigCount commercialSizePerMsg commercialTimerCount commercialTransCount
    commitCommitLogLeastPages commitCommitLogThoroughInterval commitIntervalCommitLog
    commitLogForceSwapMapInterval commitLogSwapMapInterval commitLogSwapMapReserveFileNum
    compactionCqMappedFileSize compactionMappedFileSize compactionScheduleInternal compactionThreadNum
    consumerFallbehindThreshold consumerManageThreadPoolNums consumerManagerThreadPoolQueueCapacity
    consumerOffsetUpdateVersionStep controllerHeartBeatTimeoutMills correctLogicMinOffsetForceInterval
    correctLogicMinOffsetSleepInterval defaultPopShareQueueNum defaultTopicQueueNums
    delayOffsetUpdateVersionStep deleteCommitLogFilesInterval deleteConsumeQueueFilesInterval deleteFileBatchMax
    destroyMapedFileIntervalForcibly disappearTimeAfterStart dispatchCqCacheNum dispatchCqThreads
    endTransactionPoolQueueCapacity endTransactionThreadPoolNums expectConsumerNumUseFilter
    fetchNamesrvAddrInterval filterDataCleanTimeSpan filterServerNums flushCommitLogLeastPages
    flushCommitLogThoroughInterval flushConsumeQueueLeastPages flushConsumeQueueThoroughInterval
    flushConsumerOffsetHistoryInterval flushDelayOffsetInterval flushFileInterval flushIntervalConsumeQueue
    flushLeastPagesWhenWarmMapedFile forwardTimeout globalColdReadThreshold haMaxTimeSlaveNotCatchup
    haTransferBatchSize heartbeatThreadPoolNums heartbeatThreadPoolQueueCapacity
    litePullMessageThreadPoolNums litePullThreadPoolQueueCapacity loadBalancePollNameServerInterval
    loadBalanceProcessorThreadPoolNums loadBalanceThreadPoolQueueCapacity logicQueueForceSwapMapInterval
    logicQueueSwapMapInterval logicQueueSwapMapReserveFileNum mappedFileSizeConsumeQueueExt
    mappedFileSizeTimerLog mapperFileSizeBatchConsumeQueue maxAsyncPutMessageRequests maxBatchDeleteFilesNum
    maxChecksumRange maxConsumeQueueScan maxDelayTime maxErrorRateOfBloomFilter
    maxFilterMessageSize maxHaTransferByteInSecond maxHashSlotNum maxIndexNum
    maxLmqConsumeQueueNum maxMsgsNumBatch maxOffsetMapSize maxPendingRequestsNum maxPopPollingSize
    maxPushTimeOutMillis maxPushTimeOutMs maxRecoveryCommitlogFiles maxSlaveResendLength
    maxStatsIdleTimeInMinutes maxTakeLeadershipVoteIntervalMs maxTopicLength maxTransferBytesOnMessageInDisk
    maxTransferCountOnMessageInDisk memTableFlushIntervalMs
    metricGrpcExporterIntervalInMills metricGrpcExporterTimeOutInMills metricLoggingExporterIntervalInMills
    metricsOtelCardinalityLimit metricsPromExporterPort minTakeLeadershipVoteIntervalMs
    osPageCacheBusyTimeOutMills popCkMaxBufferSize popCkOffsetMaxQueueSize popCkStayBufferTime
    popCkStayBufferTimeOut popFromRetryProbability popInflightMessageThreshold popLongPollingForceNotifyInterval
    popPollingMapExpireTimeSeconds popPollingMapSize popPollingSize popReviveMaxAttemptTimes
    popReviveMaxReturnSizePerRead printChannelGroupsMinNum processReplyMessageThreadPoolNums
    pullBatchMaxMessageCount pullMessageThreadPoolNums pullThreadPoolQueueCapacity
    putMessageFutureThreadPoolNums putMessageTimeout putMsgIndexHightWater putThreadPoolQueueCapacity
    queryMessageThreadPoolNums queryThreadPoolQueueCapacity recoverThreadPoolNums redeleteHangedFileInterval
    replicasPerDiskPartition replyThreadPoolQueueCapacity reviveAckWaitMs reviveInterval reviveMaxSlow
    reviveQueueNum reviveScanTime rocksdbFlushWalFrequency rocksdbWalFileRollingThreshold sampleCountThreshold
    sampleSteps scheduleAsyncDeliverMaxPendingLimit scheduleAsyncDeliverMaxResendNum2Blocked
    sendHeartbeatTimeoutMillis sendMessageThreadPoolNums spinLockCollisionRetreatOptimalDegree splitMetadataSize
    splitRegistrationSize statRocksDBCQIntervalSec statefulAuthenticationCacheExpiredSecond
    statefulAuthenticationCacheMaxNum statefulAuthorizationCacheExpiredSecond statefulAuthorizationCacheMaxNum
    subscriptionExpiredTimeout syncBrokerMemberGroupPeriod syncBrokerMetadataPeriod syncControllerMetadataPeriod
    timerColdDataCheckIntervalMs timerCongestNumEachSlot timerFlushIntervalMs timerGetMessageThreadNum
    timerMaxDelaySec timerMetricSmallThreshold timerPrecisionMs timerProgressLogIntervalMs
    timerPutMessageThreadNum timerRollWindowSlot topicQueueLockNum totalReplicas transactionCheckInterval
    transactionCheckMax transactionMetricFlushInterval transactionOpBatchInterval transactionOpMsgMaxSize
    transactionTimeOut transientStorePoolSize travelCqFileNumWhenGetMessage updateNameServerAddrPeriod
    userCacheExpiredSecond userCacheMaxNum userCacheRefreshSecond waitTimeMillsInAckQueue
    waitTimeMillsInAdminBrokerQueue waitTimeMillsInHeartbeatQueue waitTimeMillsInLitePullQueue
    waitTimeMillsInPullQueue waitTimeMillsInSendQueue waitTimeMillsInTransactionQueue
    """,
    booleans="""
    accountStatsEnable accountStatsPrintZeroValues allowRecallWhenBrokerNotWriteable appendAckAsync
    appendCkAsync asyncSendEnable autoDeleteUnusedStats autoMessageVersionOnTopicLen brokerContainer
    brokerFastFailureEnable brokerTopicEnable checkCRCOnRecover cleanFileForciblyEnable
    clearRetryTopicWhenDeleteTopic clusterTopicEnable coldCtrStrategyEnable coldDataFlowControlEnable
    coldDataScanEnable combineCQEnableCheckSelf commercialEnable compatibleWithOldNameSrv compressedRegister
    dataReadAheadEnable debugLockEnable diskFallRecorded dispatchFromSenderThread enableAcceleratedRecovery
    enableAsyncReput enableBatchPush enableBroadcastOffsetStore enableBuildConsumeQueueConcurrently
    enableCalcFilterBitMap enableCleanExpiredOffset enableCompaction enableConnectionMetrics
    enableConsumeQueueExt enableCreateSysGroup enableDetailStat enableFastChannelEventProcess
    enableLagAndDlqMetrics enableLmqStats enableLogConsumeQueueRepeatedlyBuildWhenRecover
    enableMessageStoreMetrics enableMixedMessageType enableNetWorkFlowControl
    enableNotifyAfterPopOrderLockRelease enableNotifyBeforePopCalculateLag enablePopBatchAck
    enablePopBufferMerge enablePopLog enablePopMessageThreshold enablePopMetrics enableRegisterProducer
    enableRemotingMetrics enableRequestMetrics enableRetryTopicV2 enableRocksDBLog enableRunningFlagsInFlush
    enableScheduleAsyncDeliver enableScheduleMessageStats enableSingleTopicRegister enableSkipLongAwaitingAck
    enableSplitMetadata enableSplitRegistration enableStatsMetrics enableTransactionMetrics estimateAccumulation
    fastFailIfNoBufferInStorePool fetchControllerAddrByDnsLookup filterSupportRetry flushCommitLogTimed
    forceRegister haFlowControlEnable highSpeedMode inBrokerContainer initPopOffsetByCheckMsgInMem
    isolateLogEnable mappedFileSwapEnable messageIndexSafe metricsInDelta migrateAuthFromV1Enabled
    offsetCheckInSlave popConsumerFSServiceInit popConsumerKVServiceEnable popConsumerKVServiceInit
    popConsumerKVServiceLog popResponseReturnActualRetryTopic printChannelGroups
    putConsumeQueueDataByFileChannel realTimeNotifyConsumerChange realTimePersistRocksDBConfig
    recheckReputOffsetFromCq recoverConcurrently rejectTransactionMessage retrieveMessageFromPopRetryTopicV1
    rocksdbCQDoubleWriteEnable searchBcqByCacheEnable serverLoadBalancerEnable skipPreOnline
    skipWhenCKRePutReachMaxTimes storeReplyMessageEnable syncMasterFlushOffsetWhenStartup
    timerEnableCheckMetrics timerEnableDisruptor timerEnableRetryUntilSuccess timerInterceptDelayLevel
    timerSkipUnknownError timerStopDequeue timerStopEnqueue timerWarmEnable timerWheelEnable traceTopicEnable
    transferMsgByHeap useABSLock usePIDColdCtrStrategy useReentrantLockWhenPutMessage useServerSideResetOffset
    useStaticSubscription validateSystemTopicWhenUpdateTopic wakeCommitWhenPutMessage wakeFlushWhenPutMessage
    warmMapedFileEnable writeWithoutMmap
    """,
    numbers="""
    logicalDiskSpaceCleanForciblyThreshold
    """,
    texts="""
    authConfigPath authenticationMetadataProvider authenticationProvider authenticationStrategy
    authenticationWhitelist authorizationMetadataProvider authorizationProvider authorizationStrategy
    authorizationWhitelist bottomMostCompressionTypeForConsumeQueueStore brokerConfigPath clusterName
    combineAssignOffsetCQType combineCQLoadingCQTypes combineCQPreferCQType configBlackList configName
    controllerAddr initAuthenticationUser
    innerClientAuthenticationCredentials metricsExporterType metricsGrpcExporterHeader metricsGrpcExporterTarget
    metricsLabel metricsPromExporterHost msgTraceTopicName rocketmqHome
    rocksdbCompressionType storePathBrokerIdentity storePathDLedgerCommitLog storePathEpochFile
    timerCheckMetricsWhen
    """,
)

NAMESRV_GENUINE: dict[str, Reader[object]] = _COMMON | _table(
    wholes="""
    clientRequestThreadPoolNums clientRequestThreadPoolQueueCapacity controllerRequestThreadPoolQueueCapacity
    controllerThreadPoolNums defaultThreadPoolNums defaultThreadPoolQueueCapacity electMasterMaxRetryCount
    mappedFileSize scanInactiveMasterInterval unRegisterBrokerQueueCapacity waitSecondsForService
    """,
    booleans="""
    enableElectUncleanMaster needWaitForService notifyBrokerRoleChanged notifyMinBrokerIdChanged
    processReadEvent
    """,
    texts="""
    configStorePath controllerDLegerGroup controllerDLegerPeers controllerDLegerSelfId controllerStorePath
    controllerType jraftConfig productEnvName
    """,
)
